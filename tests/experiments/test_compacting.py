"""What is counted of a search while it runs, and what its sums say."""

import jax
import numpy as np
import pytest

from experiments.benchmarks import compacting, ours
from experiments.benchmarks.sizes import SIZES, draw_batches
from jaxformer.model import EOS, PAD
from jaxformer.run.translation import make_decode

SMOKE = SIZES["smoke"]


def test_a_watched_search_finds_the_same_and_its_sentences_end_one_by_one(monkeypatch):
    source_BS = draw_batches(SMOKE)[0][0].copy()
    # Inputs of several lengths, and so outputs with several limits.
    for row, length in enumerate(np.arange(len(source_BS)) % source_BS.shape[1]):
        source_BS[row, length:] = [EOS, *[PAD] * (source_BS.shape[1] - length - 1)]
    model = ours.make_model(SMOKE, "float32", None)
    # Large weights, whose past matters much.
    params = jax.tree.map(lambda leaf: 3 * leaf, ours.draw_params(model))

    def decode():
        return np.asarray(
            make_decode(model, num_beams=3, alpha=0.6, extra_length=5)(params, source_BS)
        )

    expected = decode()
    counted = []
    compacting.watch(lambda rows, alive: counted.append((rows, alive)), monkeypatch.setattr)
    np.testing.assert_array_equal(decode(), expected)
    jax.effects_barrier()
    ((rows, alive),) = counted
    assert rows == alive[0] == len(source_BS)
    assert alive == sorted(alive, reverse=True)
    assert 0 < alive[-1] < rows
    # The loop ends with its last sentence: no step of it is without one.
    longest = max(np.count_nonzero(row) for row in expected)
    assert longest <= len(alive) <= source_BS.shape[1] + 5


@pytest.mark.parametrize(
    ("alive", "at_most", "by_halves"),
    [
        ([10, 10], 1.0, 1.0),
        # Rows of 10, 10, 5, 3, 1: 29 of 50.
        ([10, 6, 5, 3, 1], 2.0, 50 / 29),
    ],
)
def test_sums_of_steps(alive, at_most, by_halves):
    found = compacting.summarise([(10, alive[:2]), (10, alive[2:])])
    assert found["steps"] == len(alive)
    assert found["at_most"] == at_most
    assert found["by_halves"] == by_halves
