"""The linear form: a tree comes back from it, and nothing else is taken for a tree."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.trees.bracketed import Leaf, Tree, leaves
from jaxformer.trees.linear import FAULTS, Malformed, delinearise, linearise
from tests.trees.test_bracketed import TREE, trees

LINEAR = "(S (NP DT NN )NP (VP VBZ )VP . )S"
WORDS = ["A", "dog", "barks", "."]


def test_the_linear_form_has_brackets_and_tags_and_no_words():
    assert linearise(TREE) == LINEAR
    assert delinearise(LINEAR, WORDS) == TREE
    assert delinearise(f"  {LINEAR}\n".replace(" ", "  "), WORDS) == TREE


@given(trees.filter(lambda tree: tree.label))
def test_a_tree_comes_back(tree):
    assert delinearise(linearise(tree), [leaf.word for leaf in leaves(tree)]) == tree


@given(st.lists(st.sampled_from(["(A", "(B", ")A", ")B", "T", "U"]), max_size=9), st.integers(0, 4))
def test_what_is_taken_for_a_tree_has_that_linear_form(symbols, count):
    words = [f"w{number}" for number in range(count)]
    tree = None
    with contextlib.suppress(Malformed):
        tree = delinearise(" ".join(symbols), words)
    if tree is not None:
        assert linearise(tree) == " ".join(symbols)
        assert [leaf.word for leaf in leaves(tree)] == words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ends before it is closed, after 0 symbols with 0 phrases open"),
        ("(S DT (NP NN", "ends before it is closed, after 4 symbols with 2 phrases open"),
        ("(S DT NN )NP", "brackets do not match, ')NP' in place 4"),
        (")S", "brackets do not match, ')S' in place 1"),
        ("(S DT NN )S )S", "not one tree, ')S' in place 5"),
        ("(S DT )S (S NN )S", "not one tree, '(S' in place 4"),
        ("DT NN", "not one tree, 'DT' in place 1"),
        ("(S DT (NP )NP NN )S", "a phrase holds nothing, ')NP' in place 4"),
        ("(S DT NN VB )S", "more tags than words, 'VB' in place 4, of 2 words"),
        ("(S DT )S", "fewer tags than words, 1 of 2 words have one"),
        ("(S DT (<unk>) )S", "no symbol, '(<unk>)' in place 3"),
        ("(S DT ( NN )S", "no symbol, '(' in place 3"),
    ],
)
def test_what_is_malformed(text, said):
    with pytest.raises(Malformed) as caught:
        delinearise(text, ["a", "b"])
    assert str(caught.value) == f"This is no linear tree: {said}."
    assert caught.value.fault == said.split(",")[0]


def test_each_fault_has_a_sample():
    samples = next(
        mark for mark in test_what_is_malformed.pytestmark if mark.name == "parametrize"
    ).args[1]
    assert {said.split(",")[0] for _, said in samples} == set(FAULTS)


def test_a_deep_tree_is_no_trouble():
    text = " ".join(["(A"] * 5000 + ["B"] + [")A"] * 5000)
    assert linearise(delinearise(text, ["c"])) == text


@pytest.mark.parametrize("bad", ["", "a b", "(a"])
def test_a_label_that_would_not_come_back(bad):
    for tree in (Tree(bad, (Leaf("NN", "a"),)), Tree("S", (Leaf(bad, "a"),))):
        with pytest.raises(ValueError, match=r"cannot be a label"):
            linearise(tree)
