"""What a training that goes on knows of its evaluations."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from jaxformer.cli.groundwork import make_meta, restored_patience
from jaxformer.data.encoded import Encoded, Sentences
from jaxformer.run.patience import Patience

KEPT = Patience(3, best=1.5, waited=2, saved_best=1.75, saved_step=8)


def text(*lengths):
    """Returns what stands for text whose validation split has targets of these lengths."""
    sentences = Sentences.from_lists(np.arange(length) for length in lengths)
    valid = Encoded(sentences, sentences) if lengths else None
    return SimpleNamespace(fingerprint="d", valid=valid)


def now(of):
    return make_meta(SimpleNamespace(fingerprint="t"), of)


@pytest.fixture
def meta():
    """Returns what a checkpoint remembers."""
    return {**now(text(2, 5)), "patience": KEPT.to_json()}


def restored(meta, of, *steps):
    return restored_patience(3, meta, now(of), SimpleNamespace(all_steps=lambda: list(steps)))


def test_it_goes_on_with_what_it_knew(meta):
    assert restored(meta, text(2, 5), 4, 8, 12) == KEPT
    # A checkpoint of an older version tells of no validation text, or of no evaluation.
    del meta["valid"]
    assert restored(meta, text(2, 6), 8) == KEPT
    assert restored({}, text(2, 5), 8) == Patience(3)


def test_a_best_that_is_gone_is_forgotten(meta):
    assert restored(meta, text(2, 5), 4, 12) == Patience(3, 1.5, 2, math.inf, None)


@pytest.mark.parametrize("other", [text(2, 6), text()])
def test_nothing_holds_on_another_validation_text(meta, other):
    assert restored(meta, other, 4, 8, 12) == Patience(3)
