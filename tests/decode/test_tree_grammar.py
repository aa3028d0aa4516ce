"""A search that is held to trees gives trees, whatever the model says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decode import TreeGrammar, beam_search, greedy, hold_to
from jaxformer.model.tokens import BOS, EOS, PAD
from jaxformer.trees.linear import Malformed, delinearise
from tests.decode.conftest import TableModel

SYMBOLS = ["", "", "", "", "", "(A", "(B", ")A", ")B", "x", "y", "z"]
WORD = 4
GRAMMAR = TreeGrammar(SYMBOLS, [id == WORD for id in range(len(SYMBOLS))], EOS, max_depth=5)
ID = {symbol: id for id, symbol in enumerate(SYMBOLS) if symbol}
# A word of the input is one token or two.
WORDS = [3, 1, 7, 2, 4]
B, W, T = len(WORDS), len(SYMBOLS) + 1, 40


def sources():
    """Returns source_BS with so many words, in pieces, an end and padding."""
    rows = [[WORD, 3] * (number // 2) + [WORD] * (number - number // 2) for number in WORDS]
    return np.array([[*row, EOS, *[PAD] * (13 - len(row))] for row in rows], np.int32)


def outputs(seed, num_beams, limit=T - 1):
    """Returns the best output of each sentence, as text."""
    model = TableModel.random(seed, B, W)
    held = hold_to(GRAMMAR, model.step, model.reorder, lambda cache, length: cache)
    cache = model.start(num_beams), GRAMMAR.start(jnp.asarray(sources()), num_beams)
    limit_B = jnp.full(B, limit)

    @jax.jit
    def search(cache):
        if num_beams == 1:
            return greedy(held.step, cache, limit_B, max_length=T)
        return beam_search(
            held.step, held.reorder, cache, limit_B, num_beams=num_beams, max_length=T
        )

    return [
        " ".join(SYMBOLS[id] for id in token_MT[0].tolist() if id not in (EOS, PAD))
        for token_MT in search(cache).token_BMT
    ]


@pytest.mark.parametrize("num_beams", [1, 2, 5])
def test_every_output_is_a_tree_over_the_words(num_beams):
    trees = 0
    for seed in range(5):
        for text, count in zip(outputs(seed, num_beams), WORDS, strict=True):
            # A hypothesis that opens phrases for ever has no room to close them.
            if text:
                delinearise(text, ["word"] * count)
                trees += 1
    assert trees > 0.8 * 5 * B


def test_without_room_there_is_no_output():
    assert outputs(0, 3, limit=2) == [""] * B


def legal_after(symbols, count):
    """Returns the symbols that may follow, "" for the end."""
    state = GRAMMAR.start(jnp.full((1, count), WORD), 1)
    for id in (BOS, *(ID[symbol] for symbol in symbols)):
        state = GRAMMAR.advance(state, jnp.full((1, 1), id))
    return {SYMBOLS[id] for id in np.flatnonzero(GRAMMAR.legal(state)[0, 0])}


def may_become_a_tree(symbols, count):
    """Says whether tags for all words that are left, and closing brackets, make a tree of it."""
    stack = []
    for symbol in symbols:
        if symbol[0] == "(":
            stack.append(symbol[1:])
        elif symbol[0] == ")" and stack:
            stack.pop()
    tags = ["x"] * (count - sum(symbol in "xyz" for symbol in symbols))
    rest = [*tags, *(f"){label}" for label in reversed(stack))]
    try:
        delinearise(" ".join([*symbols, *rest]), ["word"] * count)
    except Malformed:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 2),
        ("(A", 2),
        ("(A x", 2),
        ("(A x y", 2),
        ("(A (B", 2),
        ("(A (B x", 2),
        ("(A (B x )B", 2),
        ("(A (B x y", 2),
        ("(A (B x y )B", 2),
        ("(A (B x y )B )A", 2),
        ("(A (A (B x )B", 3),
    ],
)
def test_a_symbol_is_legal_if_and_only_if_a_tree_can_begin_so(text, count):
    symbols = text.split()
    expected = {symbol for symbol in ID if may_become_a_tree([*symbols, symbol], count)}
    # What nothing can follow is a whole tree.
    assert legal_after(symbols, count) == (expected or {""})


def test_phrases_lie_in_each_other_as_deep_as_there_is_room():
    assert {"(A", "(B"} <= legal_after(["(A"] * 4, 2)
    assert legal_after(["(A"] * 5, 2) == {"x", "y", "z"}


def test_what_is_legal_keeps_the_odds_of_the_model():
    model, token_BM = TableModel.random(3, B, W), jnp.full((B, 1), BOS)
    held = hold_to(GRAMMAR, model.step, model.reorder, lambda cache, length: cache)
    start = GRAMMAR.start(jnp.asarray(sources()), 1)
    logits_BMW, (_, state) = held.step(token_BM, (model.start(1), start))
    free_BMW, _ = model.step(token_BM, model.start(1))
    # A row more than there are tokens fills the vocabulary up.
    legal_BMW = np.pad(GRAMMAR.legal(state), ((0, 0), (0, 0), (0, 1)))
    np.testing.assert_array_equal(logits_BMW[legal_BMW], free_BMW[legal_BMW])
    assert (logits_BMW[~legal_BMW] <= -1e8).all()
