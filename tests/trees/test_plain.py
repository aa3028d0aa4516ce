"""Plain trees: functions, traces, empty nodes and the outermost bracket are gone."""

import pytest

from jaxformer.trees.bracketed import read_trees, write_tree
from jaxformer.trees.plain import plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A passive with its trace.
        (
            "( (S (NP-SBJ-1 (NNS mice)) (VP (VBP are) (VP (VBN bred) (NP-1 (-NONE- *)) "
            "(PP-TMP (IN in) (NP (NN spring)))))) )",
            "(S (NP (NNS mice)) (VP (VBP are) (VP (VBN bred) (PP (IN in) (NP (NN spring))))))",
        ),
        # All that is left empty goes, however deep.
        ("( (S (SBAR (-NONE- 0) (S (NP (-NONE- *T*-1)))) (VP (VB go))) )", "(S (VP (VB go)))"),
        ("( (S (NP=2 (NN a)) (NP-1=3 (NN b))) )", "(S (NP (NN a)) (NP (NN b)))"),
        # Tags are no functions.
        (
            "( (NP (-LRB- -LRB-) (PRP$ its) (HYPH -) (-RRB- -RRB-)) )",
            "(NP (-LRB- -LRB-) (PRP$ its) (HYPH -) (-RRB- -RRB-))",
        ),
        ("(S (-X- (NN a)))", "(S (-X- (NN a)))"),
        # The outermost bracket by its other names, and where it cannot go.
        ("(TOP (S (NN a)))", "(S (NN a))"),
        ("(ROOT (S1 (S (NN a))))", "(S (NN a))"),
        ("(S (NN a))", "(S (NN a))"),
        ("( (NP (NN a)) (. .) )", "(TOP (NP (NN a)) (. .))"),
        ("( (NP (-NONE- *)) (NP (NN a)) )", "(NP (NN a))"),
        ("( (NN a) )", "(TOP (NN a))"),
    ],
)
def test_a_tree_becomes_plain(text, expected):
    (tree,) = read_trees(text)
    found = plain(tree)
    assert write_tree(found) == expected
    assert plain(found) == found


def test_a_tree_without_a_word_is_none():
    (tree,) = read_trees("( (S (NP (-NONE- *)) (VP (-NONE- *?*))) )")
    assert plain(tree) is None
