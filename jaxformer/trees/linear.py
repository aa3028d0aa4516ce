"""A tree as a sequence of symbols without its words, and strictly back (section 6.3).

    (S (NP DT NN )NP (VP VBZ )VP . )S

A symbol opens a phrase, closes one, or is a word's tag; the words themselves are left out, as they
are known: they are the parser's input, and tag number i is that of word number i. So sequences are
short and their symbols few, and no word can be left out, made up or misspelt without being noticed.
Closing symbols repeat the label, after Vinyals et al. (2015), "Grammar as a Foreign Language",
which the paper follows in the task; unlike theirs, words keep their tags instead of a common XX.
"""

import re
from collections.abc import Sequence

from jaxformer.trees.bracketed import Leaf, Tree, check_name, walk

_SYMBOL = re.compile(r"([()]?)([^\s()]+)")

NO_SYMBOL = "no symbol"
NOT_MATCHED = "brackets do not match"
NOT_CLOSED = "ends before it is closed"
HOLDS_NOTHING = "a phrase holds nothing"
NOT_ONE = "not one tree"
TOO_MANY = "more tags than words"
TOO_FEW = "fewer tags than words"
FAULTS = (NO_SYMBOL, NOT_MATCHED, NOT_CLOSED, HOLDS_NOTHING, NOT_ONE, TOO_MANY, TOO_FEW)


class Malformed(ValueError):
    """A sequence that is not the linear form of any tree over the words.

    Attributes:
      fault: the kind of fault, one of `FAULTS`.
    """

    def __init__(self, fault: str, details: str) -> None:
        super().__init__(f"This is no linear tree: {fault}, {details}.")
        self.fault = fault


def linearise(tree: Tree) -> str:
    """Returns the symbols of the tree, with a space between them.

    Raises: ValueError if a label or tag is empty, or holds a bracket or white space.
    """
    symbols = []
    for node, is_end in walk(tree):
        if isinstance(node, Leaf):
            symbols.append(check_name(node.tag))
        else:
            symbols.append(f"{')' if is_end else '('}{check_name(node.label)}")
    return " ".join(symbols)


def delinearise(text: str, words: Sequence[str]) -> Tree:
    """Returns the tree over `words` whose linear form `text` is; nothing is guessed or mended.

    The inverse of `linearise` and nothing more: whatever is accepted gives itself again, but for
    white space between symbols.

    Raises: Malformed, saying at which symbol (counted from 1) and why.
    """
    stack: list[tuple[str, list[Tree | Leaf]]] = []
    root: Tree | None = None
    used = 0
    symbols = text.split()
    for number, symbol in enumerate(symbols, start=1):
        where = f"{symbol!r} in place {number}"
        match = _SYMBOL.fullmatch(symbol)
        if match is None:
            raise Malformed(NO_SYMBOL, where)
        kind, name = match.groups()
        if root is not None or (not stack and not kind):
            raise Malformed(NOT_ONE, where)
        if kind == "(":
            stack.append((name, []))
        elif not kind:
            if used == len(words):
                raise Malformed(TOO_MANY, f"{where}, of {len(words)} words")
            stack[-1][1].append(Leaf(name, words[used]))
            used += 1
        else:
            if not stack or stack[-1][0] != name:
                raise Malformed(NOT_MATCHED, where)
            _, children = stack.pop()
            if not children:
                raise Malformed(HOLDS_NOTHING, where)
            node = Tree(name, tuple(children))
            if stack:
                stack[-1][1].append(node)
            else:
                root = node
    if root is None:
        raise Malformed(NOT_CLOSED, f"after {len(symbols)} symbols with {len(stack)} phrases open")
    if used < len(words):
        raise Malformed(TOO_FEW, f"{used} of {len(words)} words have one")
    return root
