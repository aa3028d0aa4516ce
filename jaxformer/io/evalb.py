"""Scores of constituency trees by the rules of EVALB with COLLINS.prm (Sekine and Collins, 1997).

A bracket is a phrase's label with the first and last word that it spans; one that stands twice
counts twice. Punctuation (words that the reference tags `,` `:` two backticks, two quotes, or `.`)
is taken out first, so that it does not matter to which phrase it is attached, and a phrase that
held nothing else goes with it. ADVP and PRT are the same label, the root bracket TOP is none, and
tags of words are no brackets.

Departs: EVALB looks for punctuation in either tree by that tree's own tags, and leaves a sentence
out if they disagree. Here the reference's tags tell it in both, as they do in EVALB for a parser
that is given them, so that no sentence is left out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from jaxformer.trees.bracketed import Leaf, Tree, leaves, walk
from jaxformer.trees.plain import TOP

PUNCTUATION = frozenset({",", ":", "``", "''", "."})
_SAME = {"PRT": "ADVP"}

Bracket = tuple[str, int, int]
"""Label, first word, and the word after the last, words without punctuation counted from 0."""


@dataclasses.dataclass(frozen=True)
class BracketScore:
    """What was counted over some sentences.

    Attributes:
      matched: brackets that are in both, of `reference` and `candidate` ones.
      sentences: all; `exact` of them have the same brackets, `malformed` no tree at all.
      words: without punctuation; `tagged` of them have the reference's tag.
    """

    matched: int = 0
    reference: int = 0
    candidate: int = 0
    sentences: int = 0
    exact: int = 0
    malformed: int = 0
    words: int = 0
    tagged: int = 0

    def __add__(self, other: BracketScore) -> BracketScore:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return BracketScore(*(mine + its for mine, its in pairs))

    @property
    def recall(self) -> float:
        """Share of the reference's brackets that were found, 0 to 100."""
        return _percent(self.matched, self.reference)

    @property
    def precision(self) -> float:
        """Share of the candidate's brackets that are right, 0 to 100."""
        return _percent(self.matched, self.candidate)

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision, 0 to 100."""
        return _percent(2 * self.matched, self.reference + self.candidate)

    @property
    def tag_accuracy(self) -> float:
        """Share of the words with the reference's tag, 0 to 100."""
        return _percent(self.tagged, self.words)

    @property
    def exact_match(self) -> float:
        """Share of the sentences with the reference's brackets and no others, 0 to 100."""
        return _percent(self.exact, self.sentences)


def score_trees(
    candidates: Sequence[Tree | None], references: Sequence[Tree], *, is_labelled: bool = True
) -> BracketScore:
    """Scores one candidate of every sentence against its reference, in the same order.

    Args:
      candidates: None where the parser gave no tree: it has no bracket and no tag, so that all of
        the reference's are missed.
      is_labelled: False to compare spans alone, whatever the labels.

    Raises: ValueError if the numbers differ, or a candidate has other words than its reference.
    """
    if len(candidates) != len(references):
        raise ValueError(
            f"{len(candidates)} trees cannot be scored against {len(references)} references. Give "
            "one of each per sentence."
        )
    pairs = zip(candidates, references, strict=True)
    return total(compare(*pair, is_labelled=is_labelled) for pair in pairs)


def total(scores: Iterable[BracketScore]) -> BracketScore:
    """Returns the score of all sentences together."""
    return sum(scores, BracketScore())


def compare(candidate: Tree | None, reference: Tree, *, is_labelled: bool = True) -> BracketScore:
    """Returns the score of one sentence; arguments and errors as of `score_trees`."""
    words = leaves(reference)
    counts = [leaf.tag not in PUNCTUATION for leaf in words]
    expected = brackets(reference, counts, is_labelled=is_labelled)
    score = BracketScore(reference=expected.total(), sentences=1, words=sum(counts))
    if candidate is None:
        return dataclasses.replace(score, malformed=1)
    guessed = leaves(candidate)
    if [leaf.word for leaf in guessed] != [leaf.word for leaf in words]:
        raise ValueError(
            f"A tree over {' '.join(leaf.word for leaf in guessed)!r} cannot be scored against one "
            f"over {' '.join(leaf.word for leaf in words)!r}. Give trees over the same words."
        )
    found = brackets(candidate, counts, is_labelled=is_labelled)
    tags = zip(guessed, words, counts, strict=True)
    return dataclasses.replace(
        score,
        matched=(found & expected).total(),
        candidate=found.total(),
        exact=int(found == expected),
        tagged=sum(counted and mine.tag == its.tag for mine, its, counted in tags),
    )


def brackets(tree: Tree, counts: Sequence[bool], *, is_labelled: bool = True) -> Counter[Bracket]:
    """Returns the brackets of a tree, and how often each stands in it.

    Args:
      counts: for every word of the tree whether it counts, as all but punctuation do.
      is_labelled: False to give all the same label, "".
    """
    found: Counter[Bracket] = Counter()
    starts: list[int] = []
    position, kept = iter(counts), 0
    for node, is_end in walk(tree):
        if isinstance(node, Leaf):
            kept += next(position)
        elif not is_end:
            starts.append(kept)
        else:
            start = starts.pop()
            if start < kept and node.label != TOP:
                label = _SAME.get(node.label, node.label) if is_labelled else ""
                found[label, start, kept] += 1
    return found


def right_branching(reference: Tree) -> Tree:
    """Returns the tree in which every word but the last opens a phrase that runs to the end.

    The baseline of unlabelled scores. Punctuation opens no phrase, so as not to count against it;
    a single word has none, in a root TOP.
    """
    inner: list[Tree | Leaf] = []
    opened = 0
    words = leaves(reference)
    first = next((place for place, leaf in enumerate(words) if leaf.tag not in PUNCTUATION), 0)
    for place in reversed(range(len(words))):
        inner.insert(0, words[place])
        opened += words[place].tag not in PUNCTUATION
        # Punctuation before the first word stands in the outermost phrase with it.
        if place > first and opened > 1 and words[place].tag not in PUNCTUATION:
            inner = [Tree("X", tuple(inner))]
    return Tree("X" if opened > 1 else TOP, tuple(inner))


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
