"""A treebank's tree without what parsers are not asked for: functions, traces and empty nodes."""

import re

from jaxformer.trees.bracketed import Leaf, Tree, walk

EMPTY = "-NONE-"
# The bracket round a whole sentence, by its names in different treebanks.
ROOTS = ("", "TOP", "ROOT", "S1")
# In place of such a bracket that cannot go.
TOP = "TOP"


def plain(tree: Tree) -> Tree | None:
    """Returns the tree with bare categories and words only; None if it holds no word.

    Words tagged -NONE- (traces and other empty nodes) go, and with them the phrases that held
    nothing else. A phrase's label ends before its first - or =, so that NP-SBJ-1 and NP=2 are NP;
    tags of words stay as they are. The bracket round the whole sentence goes if a single phrase is
    in it, and is TOP otherwise.
    """
    stack: list[tuple[str, list[Tree | Leaf]]] = [("", [])]
    for node, is_end in walk(tree):
        if isinstance(node, Leaf):
            if node.tag != EMPTY:
                stack[-1][1].append(node)
        elif not is_end:
            stack.append((_category(node.label), []))
        else:
            label, children = stack.pop()
            if children:
                stack[-1][1].append(Tree(label, tuple(children)))
    phrases = [node for node in stack[0][1] if isinstance(node, Tree)]
    if not phrases:
        return None
    (root,) = phrases
    while root.label in ROOTS:
        only = root.children[0]
        if len(root.children) > 1 or isinstance(only, Leaf):
            return Tree(TOP, root.children)
        root = only
    return root


def _category(label: str) -> str:
    # What begins with one of them, as -NONE- does, has no function.
    return label if label.startswith(("-", "=")) else re.split(r"[-=]", label, maxsplit=1)[0]
