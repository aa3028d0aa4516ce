"""How much a trained model needs each of its heads, and how widely each looks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from jaxformer.io.score import Score, score
from jaxformer.model import Head, Transformer, entropy_sums, heads_of, silence_head
from jaxformer.run.translation import Translate
from jaxformer.train import Batch, Params


@dataclass(frozen=True)
class SilencedHeads:
    """Translation scores without one head at a time.

    Attributes:
      whole: the score of the model as it is.
      without: the score when a head gives zero.
    """

    whole: Score
    without: dict[Head, Score]


def score_silenced(
    model: Transformer,
    params: Params,
    translate: Translate,
    pairs: Sequence[tuple[str, str]],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> SilencedHeads:
    """Translates the sources once with all heads, and once without each of them.

    All translations run the programs that the first has compiled.

    Args:
      translate: of `make_translate`, for this model.
      pairs: source and reference.
      report: called after each translation of all sources with the number of those done, and of
        all.

    Raises: ValueError if there is nothing to score.
    """
    sources, references = ([pair[side] for pair in pairs] for side in (0, 1))
    heads = heads_of(model)

    def run(number: int, params: Params) -> Score:
        found = score(translate(params, sources), references)
        report(number, 1 + len(heads))
        return found

    return SilencedHeads(
        whole=run(1, params),
        without={
            head: run(number, silence_head(params, head))
            for number, head in enumerate(heads, start=2)
        },
    )


def mean_entropies(
    model: Transformer, params: Params, batches: Iterable[Batch]
) -> dict[str, np.ndarray]:
    """Returns the mean entropy of each head's weights over the positions of all tokens, in nats.

    Returns: kind of attention -> entropy_LH, L being the layers.
    Raises: ValueError if there are no batches, or the model's attention function gives no weights.
    """
    sums = jax.jit(
        lambda params, batch: entropy_sums(model, params, batch["source_BS"], batch["target_BT"])
    )
    # Kept on the device until all batches have been handed to it.
    found = [sums(params, batch) for batch in batches]
    if not found:
        raise ValueError("There is no text whose attention could be measured. Give a batch.")
    means = {}
    for kind in dict.fromkeys(head.kind for head in heads_of(model)):
        sum_LH = np.sum([np.asarray(each[kind][0], np.float64) for each in found], axis=0)
        means[kind] = sum_LH / max(1, sum(int(each[kind][1]) for each in found))
    return means


def by_kind(model: Transformer, values: Mapping[Head, float]) -> dict[str, np.ndarray]:
    """Returns the values of all heads as tables: kind of attention -> value_LH."""
    kinds = dict.fromkeys(head.kind for head in heads_of(model))
    return {
        kind: np.array([value for head, value in values.items() if head.kind == kind]).reshape(
            -1, model.num_heads
        )
        for kind in kinds
    }
