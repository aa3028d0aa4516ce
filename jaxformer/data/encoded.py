"""A corpus as token ids: flat arrays and where each sentence starts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxformer.data.tokenizer import Tokenizer

_PAIRS_AT_A_TIME = 8192


@dataclass(frozen=True)
class Sentences:
    """Token ids of many sentences, one after another, each ending in EOS.

    Attributes:
      tokens: int32, all sentences end to end.
      starts: int64, [sentences + 1]; sentence i is tokens[starts[i] : starts[i + 1]].
    """

    tokens: np.ndarray
    starts: np.ndarray

    @classmethod
    def from_lists(cls, sentences: Iterable[np.ndarray]) -> "Sentences":
        """Joins the sentences' arrays."""
        sentences = list(sentences)
        lengths = [len(sentence) for sentence in sentences]
        tokens = np.concatenate(sentences) if sentences else np.zeros(0, np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(tokens.astype(np.int32), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.tokens[self.starts[index] : self.starts[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence, EOS included."""
        return np.diff(self.starts)

    def select(self, indices: np.ndarray) -> "Sentences":
        """Returns only the sentences named, in that order."""
        return Sentences.from_lists(self[int(index)] for index in indices)


@dataclass(frozen=True)
class Encoded:
    """Source and target sentences, aligned by index."""

    source: Sentences
    target: Sentences

    def __len__(self) -> int:
        return len(self.source)

    def within(self, max_length: int) -> "Encoded":
        """Returns the pairs of which neither side has more than `max_length` tokens."""
        fits = np.maximum(self.source.lengths, self.target.lengths) <= max_length
        if fits.all():
            return self
        indices = np.flatnonzero(fits)
        return Encoded(self.source.select(indices), self.target.select(indices))


def encode_pairs(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer) -> Encoded:
    """Returns all pairs as token ids, in order."""
    sources: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
        some = pairs[start : start + _PAIRS_AT_A_TIME]
        sources += tokenizer.encode([source for source, _ in some])
        targets += tokenizer.encode([target for _, target in some], "target")
    return Encoded(Sentences.from_lists(sources), Sentences.from_lists(targets))
