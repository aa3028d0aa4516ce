"""Scores without one head at a time, and entropies over many batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.data.sentence_piece import train_sentence_piece
from jaxformer.io.score import score
from jaxformer.model import (
    Head,
    Transformer,
    dot_product_attention,
    entropy_sums,
    heads_of,
    silence_head,
)
from jaxformer.run.heads import by_kind, mean_entropies, score_silenced
from jaxformer.run.restoring import abstract_params
from jaxformer.run.translation import make_translate

WORDS = ["ash", "bay", "cob", "dew", "elm", "fig"]
SETTINGS = {"num_beams": 1, "alpha": 0.6, "extra_length": 5, "longest": 16, "batch_tokens": 64}


@pytest.fixture(scope="module")
def tokenizer():
    lines = [f"{a} {b}. {c}" for a in WORDS for b in WORDS for c in WORDS]
    return train_sentence_piece(lines, 290)


def make_model(tokenizer, attend=dot_product_attention):
    return Transformer(
        vocab_size=tokenizer.vocab_size, d_model=10, d_ff=14, num_heads=2, d_k=5, d_v=3,
        num_encoder_layers=1, num_decoder_layers=1, attend=attend,
    )  # fmt: skip


@pytest.fixture(scope="module")
def params(tokenizer):
    model, rng = make_model(tokenizer), np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), abstract_params(model)
    )


def test_every_head_is_silenced_once_by_one_program(tokenizer, params):
    traced, reports = [], []

    def counting(*arguments):
        traced.append(1)
        return dot_product_attention(*arguments)

    model = make_model(tokenizer, counting)
    translate = make_translate(model, tokenizer, **SETTINGS)
    sources = ["ash bay", "elm fig. cob", "dew"]
    references = translate(params, sources)
    compiled = len(traced)
    assert compiled > 0
    found = score_silenced(
        model,
        params,
        translate,
        list(zip(sources, references, strict=True)),
        lambda done, total: reports.append((done, total)),
    )
    assert len(traced) == compiled
    assert reports == [(number, 7) for number in range(1, 8)]
    assert found.whole == score(references, references)
    assert list(found.without) == heads_of(model)
    for head, without in found.without.items():
        outputs = translate(silence_head(params, head), sources)
        assert without == score(outputs, references)
    assert any(without.chrf < 90 for without in found.without.values())
    assert found.whole.chrf == pytest.approx(100)


def test_entropies_are_means_over_the_positions_of_all_batches(tokenizer, params):
    model = make_model(tokenizer)
    rng = np.random.default_rng(0)
    batches = []
    for lengths in ([5, 3], [2, 6]):
        source_BS, target_BT = (np.zeros((2, 7), np.int32) for _ in range(2))
        for row, length in enumerate(lengths):
            source_BS[row, :length] = [*rng.integers(4, 290, length - 1), 2]
            target_BT[row, : length + 1] = [*rng.integers(4, 290, length), 2]
        batches.append({"source_BS": source_BS, "target_BT": target_BT})
    found = mean_entropies(model, params, iter(batches))
    together = {side: np.concatenate([batch[side] for batch in batches]) for side in batches[0]}
    sums = jax.jit(lambda params, *rows: entropy_sums(model, params, *rows))(
        params, together["source_BS"], together["target_BT"]
    )
    assert {kind: int(count) for kind, (_, count) in sums.items()} == {
        "encoder": 16, "decoder": 20, "cross": 20,
    }  # fmt: skip
    assert list(found) == ["encoder", "decoder", "cross"]
    for kind, (sum_LH, count) in sums.items():
        assert found[kind].shape == (1, 2)
        np.testing.assert_allclose(found[kind], sum_LH / count, rtol=1e-5)
    with pytest.raises(ValueError, match="no text whose attention"):
        mean_entropies(model, params, [])


def test_values_become_tables_of_layers_and_heads(tokenizer):
    model = make_model(tokenizer).clone(num_encoder_layers=2)
    values = {head: 100.0 * head.layer + head.number for head in heads_of(model)}
    assert values[Head("encoder", 1, 1)] == 101
    tables = by_kind(model, values)
    assert {kind: value_LH.tolist() for kind, value_LH in tables.items()} == {
        "encoder": [[0, 1], [100, 101]],
        "decoder": [[0, 1]],
        "cross": [[0, 1]],
    }
