"""Bracketed text: what is written is read again, and what is no tree is said so."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.trees.bracketed import Leaf, Tree, leaves, read_trees, walk, write_tree

TEXT = "(S (NP (DT A) (NN dog)) (VP (VBZ barks)) (. .))"
TREE = Tree(
    "S",
    (
        Tree("NP", (Leaf("DT", "A"), Leaf("NN", "dog"))),
        Tree("VP", (Leaf("VBZ", "barks"),)),
        Leaf(".", "."),
    ),
)

# Any characters but brackets and what Python takes for white space.
names = st.text(st.characters(codec="utf-8", exclude_characters="()"), min_size=1).filter(
    lambda name: not any(character.isspace() for character in name)
)
nodes = st.recursive(
    st.builds(Leaf, names, names),
    lambda inner: st.builds(Tree, names, st.lists(inner, min_size=1, max_size=4).map(tuple)),
    max_leaves=12,
)
trees = st.builds(
    Tree, names | st.just(""), st.lists(nodes, min_size=1, max_size=3).map(tuple)
).filter(lambda tree: tree.label or isinstance(tree.children[0], Tree))


def test_a_tree_is_written_and_read():
    assert write_tree(TREE) == TEXT
    assert list(read_trees(TEXT)) == [TREE]
    assert [leaf.word for leaf in leaves(TREE)] == ["A", "dog", "barks", "."]


@given(st.lists(trees, max_size=3))
def test_what_is_written_is_read_again(some):
    assert list(read_trees("\n".join(map(write_tree, some)))) == some


def test_a_phrase_is_walked_through_before_and_after():
    names = [(getattr(node, "label", None) or node.word, is_end) for node, is_end in walk(TREE)]
    assert names == [
        *(("S", False), ("NP", False), ("A", False), ("dog", False), ("NP", True)),
        *(("VP", False), ("barks", False), ("VP", True), (".", False), ("S", True)),
    ]


def test_white_space_is_of_no_account_and_the_root_needs_no_label():
    text = "((S(NP (DT A)\n\t(NN dog)) (VP(VBZ  barks )) (. .)) )\r\n\n(X (Y z))"
    assert list(read_trees(text)) == [Tree("", (TREE,)), Tree("X", (Leaf("Y", "z"),))]


def test_a_word_in_parts_may_be_joined():
    text = "(S (NN a b  c) (NN d))"
    joined = Tree("S", (Leaf("NN", "a+b+c"), Leaf("NN", "d")))
    assert list(read_trees(text, joiner="+")) == [joined]
    with pytest.raises(ValueError, match=r"the word 'b' has no tag of its own"):
        list(read_trees(text))
    with pytest.raises(ValueError, match=r"the word 'c' has no tag of its own"):
        list(read_trees("(S (NN a (NN b) c))", joiner=""))


def test_a_deep_tree_is_no_trouble():
    depth = 5000
    text = "(A " * depth + "(B c)" + ")" * depth
    (tree,) = read_trees(text)
    assert write_tree(tree) == text
    assert leaves(tree) == [Leaf("B", "c")]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("(S (NN a))\nword (S (NN a))", 2, "'word' stands outside of all brackets"),
        ("(S (NN a)))", 1, "')' stands outside of all brackets"),
        ("(S\n (NN a b))", 2, "the word 'b' has no tag of its own"),
        ("(S (NP (DT the)\n dog))", 2, "the word 'dog' has no tag of its own"),
        ("(S (NP dog (DT the)))", 1, "the word 'dog' has no tag of its own"),
        ("(S (NN a) ())", 1, "() holds nothing"),
        ("(S (NP) (NN a))", 1, "(NP) holds nothing"),
        ("(S ((NN a) (NN b)))", 1, "a phrase has no label"),
        ("\n\n(NN a)", 3, "the word 'a' stands in no phrase"),
    ],
)
def test_what_is_no_tree(text, line, said):
    sentence = f"a.ptb is no bracketed tree in line {line}: {said}. Expected trees like "
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}.*$"):
        list(read_trees(text, "a.ptb"))


def test_a_text_that_ends_too_early():
    found = read_trees("(S (NN a))\n(S (NP\n(NN a)", "a.ptb")
    assert next(found) == Tree("S", (Leaf("NN", "a"),))
    with pytest.raises(ValueError, match=r"tree that begins in line 2: 2 closing brackets"):
        next(found)


@given(st.text(st.sampled_from("() ab\n"), max_size=30))
def test_any_text_is_trees_or_one_sentence(text):
    try:
        found = list(read_trees(text))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        assert list(read_trees("".join(map(write_tree, found)))) == found
        assert text.split() == [] or found
    assert not message or message.startswith("The text ")


@pytest.mark.parametrize("bad", ["", "a b", "(a", "a)", "a\u2003b"])
def test_what_cannot_be_written(bad):
    for tree in (
        Tree("S", (Leaf(bad, "a"),)),
        Tree("S", (Leaf("NN", bad),)),
        Tree("S", (Tree(bad, (Leaf("NN", "a"),)),)),
    ):
        with pytest.raises(ValueError, match=r"cannot be a label, a tag or a word of a tree"):
            write_tree(tree)
