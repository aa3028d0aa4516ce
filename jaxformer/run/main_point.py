"""The main point of a text: the few of its words that score highest, in their order."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from jaxformer.data.word_piece import Pieces

Span = tuple[int, int]
"""Where a word begins and ends in its text, in characters."""

_WORD = re.compile(r"\w+(?:['\N{RIGHT SINGLE QUOTATION MARK}-]\w+)*")


def words(text: str) -> list[Span]:
    """Returns the words of a text, punctuation left out; "lord's" and "burnt-offering" are one."""
    return [match.span() for match in _WORD.finditer(text)]


def word_scores(words: Sequence[Span], pieces: Pieces, score_S: np.ndarray) -> np.ndarray:
    """Returns each word's score, the sum over its pieces; -inf for one that was cut off.

    Special pieces and punctuation, which belong to no word, count for nothing.
    """
    scores = np.full(len(words), -np.inf)
    for place, word in enumerate(_owners(words, pieces)):
        if word is not None:
            scores[word] = score_S[place] + (scores[word] if np.isfinite(scores[word]) else 0)
    return scores


def choose(scores: np.ndarray, share: float) -> list[int]:
    """Returns the places of the highest scores, in their order in the text.

    Args:
      share: of the words, rounded up; of words with equal scores the first ones are taken.
    """
    order = np.argsort(-scores, kind="stable")[: math.ceil(share * len(scores))]
    return sorted(place for place in order.tolist() if np.isfinite(scores[place]))


def is_within(chosen: Sequence[Span], pieces: Pieces) -> np.ndarray:
    """Returns which of the pieces belong to the chosen words, chosen_S."""
    return np.array([owner is not None for owner in _owners(chosen, pieces)], bool)


class Rarity:
    """TF-IDF of words in their text: what is frequent there and rare elsewhere scores high.

    A word's score is how often it stands in its text, times log((1 + n) / (1 + m)) + 1, n texts
    being known, of which m hold it; case does not count.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Counts the words of the texts that are known."""
        self._num_texts = len(texts)
        self._holders = Counter(word for text in texts for word in set(_names(text)))

    def scores(self, text: str) -> np.ndarray:
        """Returns the score of each of `words(text)`."""
        names = _names(text)
        counts = Counter(names)
        return np.array(
            [
                counts[name] * (math.log((1 + self._num_texts) / (1 + self._holders[name])) + 1)
                for name in names
            ]
        )


def join(text: str, chosen: Sequence[Span]) -> str:
    """Returns the chosen words as a text of their own."""
    return " ".join(text[start:end] for start, end in chosen)


def _names(text: str) -> list[str]:
    return [text[start:end].lower() for start, end in words(text)]


def _owners(words: Sequence[Span], pieces: Pieces) -> list[int | None]:
    """Returns the word that each piece lies in. Words and pieces are in the order of the text."""
    owners: list[int | None] = []
    word = 0
    for start, end in pieces.spans:
        while word < len(words) and words[word][1] <= start:
            word += 1
        is_inside = word < len(words) and words[word][0] <= start < end <= words[word][1]
        owners.append(word if is_inside else None)
    return owners
