"""Trees, and the bracketed text of treebanks: `(S (NP (DT A) (NN dog)) (VP (VBZ barks)) (. .))`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(r"[()]|[^\s()]+")
_NAME = re.compile(r"[^\s()]+")


@dataclass(frozen=True)
class Leaf:
    """A word with its part of speech."""

    tag: str
    word: str


@dataclass(frozen=True)
class Tree:
    """A phrase: its label, and the phrases and words that it is made of, at least one."""

    label: str
    children: tuple["Tree | Leaf", ...]


def walk(tree: Tree) -> Iterator[tuple[Tree | Leaf, bool]]:
    """Yields (node, is_end) in the order of the text, however deep the tree.

    A phrase comes twice, before and after what is in it; a word comes once, with False.
    """
    waiting: list[tuple[Tree | Leaf, bool]] = [(tree, False)]
    while waiting:
        node, is_end = waiting.pop()
        yield node, is_end
        if isinstance(node, Tree) and not is_end:
            waiting.append((node, True))
            waiting.extend((child, False) for child in reversed(node.children))


def leaves(tree: Tree) -> list[Leaf]:
    """Returns the words with their tags, in order."""
    return [node for node, _ in walk(tree) if isinstance(node, Leaf)]


def check_name(name: str) -> str:
    """Returns the label, tag or word. Raises: ValueError if a tree's text cannot hold it."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a label, a tag or a word of a tree. Give it a name without "
            "brackets and white space, such as -LRB- for a bracket."
        )
    return name


def write_tree(tree: Tree) -> str:
    """Returns the tree as one line of bracketed text, which `read_trees` reads as the same tree.

    Raises: ValueError as `check_name`; the root's label alone may be "".
    """
    parts = []
    for node, is_end in walk(tree):
        if isinstance(node, Leaf):
            text = f"({check_name(node.tag)} {check_name(node.word)})"
        elif is_end:
            text = ")"
        else:
            text = f"({check_name(node.label) if parts or node.label else ''}"
        parts.append(text if is_end or not parts else f" {text}")
    return "".join(parts)


def read_trees(text: str, name: str = "The text", *, joiner: str | None = None) -> Iterator[Tree]:
    """Yields the trees of a bracketed text, with any white space between brackets and words.

    The outermost bracket of a tree may lack a label, as in the Penn Treebank; it is "" then.

    Args:
      name: of the text, for messages, such as the file's.
      joiner: what to put between the parts of a word that stands there in several, as in
        `(NN a b)`; None if that is an error.

    Raises: ValueError, naming the line, at what is no tree; those before it have been yielded.
    """
    stack: list[_Open] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        try:
            if token == "(":
                stack.append(_Open(match.start()))
            elif not stack:
                raise ValueError(f"{token!r} stands outside of all brackets")
            elif token != ")":
                stack[-1].add(token, joiner)
            else:
                node = stack.pop().close(is_root=not stack)
                if stack:
                    stack[-1].children.append(node)
                elif isinstance(node, Leaf):
                    raise ValueError(f"the word {node.word!r} stands in no phrase")
                else:
                    yield node
        except ValueError as error:
            raise ValueError(
                f"{name} is no bracketed tree in line {_line(text, match.start())}: {error}. "
                "Expected trees like (S (NP (DT A) (NN dog)) (VP (VBZ barks)))."
            ) from None
    if stack:
        raise ValueError(
            f"{name} ends within the tree that begins in line {_line(text, stack[0].place)}: "
            f"{len(stack)} closing brackets are missing."
        )


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


@dataclass
class _Open:
    """A bracket that is not closed yet: where it stands, and what has come since."""

    place: int
    label: str = ""
    word: str = ""
    children: list[Tree | Leaf] = field(default_factory=list)

    def add(self, token: str, joiner: str | None) -> None:
        if self.word and not self.children and joiner is not None:
            self.word += joiner + token
        elif self.children or self.word:
            raise ValueError(f"the word {token!r} has no tag of its own")
        elif self.label:
            self.word = token
        else:
            self.label = token

    def close(self, *, is_root: bool) -> Tree | Leaf:
        if self.word and not self.children:
            return Leaf(self.label, self.word)
        if self.word:
            raise ValueError(f"the word {self.word!r} has no tag of its own")
        if not self.children:
            raise ValueError(f"({self.label}) holds nothing")
        if not self.label and not is_root:
            raise ValueError("a phrase has no label")
        return Tree(self.label, tuple(self.children))
