"""EVALB's rules: the program's own counts, and each rule by hand."""

import json
from pathlib import Path

import pytest

from jaxformer.io.evalb import BracketScore, compare, right_branching, score_trees, total
from jaxformer.trees.bracketed import leaves, read_trees, write_tree

# Made by tests/golden/make_evalb_golden.py with EVALB itself.
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "evalb.json").read_text("utf-8"))


def tree(text):
    (found,) = read_trees(text)
    return found


@pytest.mark.parametrize("kind", ["labelled", "unlabelled"])
def test_counts_are_those_of_evalb(kind):
    is_labelled = kind == "labelled"
    scores = []
    for (reference, candidate), counts in zip(GOLDEN["pairs"], GOLDEN[kind], strict=True):
        scores.append(compare(tree(candidate), tree(reference), is_labelled=is_labelled))
        found = scores[-1]
        assert [getattr(found, field) for field in GOLDEN["fields"]] == counts
    assert len(scores) == 60
    assert round(total(scores).f1, 2) == GOLDEN[f"{kind}_f1"]


REFERENCE = tree("(S (NP (DT the) (NN dog)) (VP (VBZ barks) (ADVP (RB here))) (. .))")


def scored(text, **options):
    found = compare(tree(text), REFERENCE, **options)
    return found.matched, found.reference, found.candidate


def test_a_tree_is_all_right_beside_itself():
    found = score_trees([REFERENCE, REFERENCE], [REFERENCE, REFERENCE])
    assert found == BracketScore(
        matched=8, reference=8, candidate=8, sentences=2, exact=2, words=8, tagged=8
    )
    assert (found.f1, found.recall, found.precision) == (100, 100, 100)
    assert (found.exact_match, found.tag_accuracy) == (100, 100)


def test_labels_count_only_where_they_are_asked_for():
    text = "(S (VP (DT the) (NN dog)) (VP (VBZ barks) (ADVP (RB here))) (. .))"
    assert scored(text) == (3, 4, 4)
    assert scored(text, is_labelled=False) == (4, 4, 4)


def test_adverbs_and_particles_are_the_same():
    text = "(S (NP (DT the) (NN dog)) (VP (VBZ barks) (PRT (RB here))) (. .))"
    assert scored(text) == (4, 4, 4)


def test_where_punctuation_is_attached_is_of_no_account():
    text = "(S (NP (DT the) (NN dog)) (VP (VBZ barks) (ADVP (RB here) (X (. .)))))"
    assert scored(text) == (4, 4, 4)


def test_punctuation_is_what_the_reference_tags_so():
    text = "(S (NP (DT the) (NN dog)) (VP (VBZ barks) (. here) (NP (NN .))))"
    # The candidate's last word is punctuation whatever it says, and `here` is none.
    found = compare(tree(text), REFERENCE)
    assert (found.matched, found.candidate, found.words, found.tagged) == (3, 3, 4, 3)


def test_a_bracket_that_stands_twice_counts_twice():
    text = "(S (NP (NP (DT the) (NN dog))) (VP (VBZ barks) (ADVP (RB here))) (. .))"
    assert scored(text) == (4, 4, 5)
    assert compare(tree(text), tree(text)).matched == 5
    assert compare(REFERENCE, tree(text)).matched == 4


def test_the_root_bracket_is_none():
    assert scored(f"(TOP {write_tree(REFERENCE)})") == (4, 4, 4)


def test_no_tree_misses_all_and_is_counted():
    found = score_trees([None, REFERENCE], [REFERENCE, REFERENCE])
    assert (found.sentences, found.malformed, found.exact) == (2, 1, 1)
    assert (found.matched, found.reference, found.candidate) == (4, 8, 4)
    assert (found.words, found.tagged) == (8, 4)
    assert (found.recall, found.precision) == (50, 100)
    assert found.f1 == pytest.approx(2 * 50 * 100 / 150)
    nothing = score_trees([None], [REFERENCE])
    assert (nothing.f1, nothing.recall, nothing.precision, nothing.exact_match) == (0, 0, 0, 0)


def test_what_cannot_be_scored_is_told():
    with pytest.raises(ValueError, match=r"1 trees cannot be scored against 2 references"):
        score_trees([None], [REFERENCE, REFERENCE])
    with pytest.raises(ValueError, match=r"A tree over 'the cat' cannot be scored against"):
        compare(tree("(NP (DT the) (NN cat))"), REFERENCE)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("(A (B b) (C (D d)) (E e))", "(X (B b) (X (D d) (E e)))"),
        ("(A (B b) (, ,) (C c) (E e) (. .))", "(X (B b) (, ,) (X (C c) (E e) (. .)))"),
        ("(A (`` `) (, ,) (C c) (E e))", "(X (`` `) (, ,) (C c) (E e))"),
        ("(A (C c) (. .))", "(TOP (C c) (. .))"),
        ("(A (. .))", "(TOP (. .))"),
    ],
)
def test_right_branching_trees(reference, expected):
    found = right_branching(tree(reference))
    assert write_tree(found) == expected
    assert leaves(found) == leaves(tree(reference))
    # Every word but the last opens one bracket.
    kept = compare(found, tree(reference), is_labelled=False)
    assert kept.candidate == max(0, kept.words - 1)


def test_right_branching_of_a_right_branching_language():
    reference = tree("(S (PRP I) (VP (MD can) (VP (VB see) (NP (PRP him)))))")
    found = compare(right_branching(reference), reference, is_labelled=False)
    # All but the bracket of the single last word.
    assert (found.matched, found.candidate, found.reference) == (3, 3, 4)
