"""A corpus as token ids: flat arrays and where each sentence starts."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxformer.data.tokenizer import Side, Tokenizer

_PAIRS_AT_A_TIME = 8192
_SIDES = ("source", "target")


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
        tokens = np.concatenate(sentences) if sentences else np.zeros(0, np.int32)
        return cls(tokens.astype(np.int32), _starts([len(sentence) for sentence in sentences]))

    @classmethod
    def join(cls, parts: Iterable["Sentences"]) -> "Sentences":
        """Puts many sentences after many others."""
        parts = list(parts)
        tokens = [np.zeros(0, np.int32), *(part.tokens for part in parts)]
        lengths = [np.zeros(0, np.int64), *(part.lengths for part in parts)]
        return cls(np.concatenate(tokens), _starts(np.concatenate(lengths)))

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
        lengths = self.lengths[indices]
        return Sentences(self.tokens[spans(self.starts[:-1][indices], lengths)], _starts(lengths))


def spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the numbers `start`, `start + 1`, ... of every span, one span after another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _starts(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


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


def encode_in_parts(
    pairs: Sequence[tuple[str, str]],
    tokenizer: Tokenizer,
    *,
    bpe_dropout: float = 0.0,
    spellings: int = 1,
) -> Iterator[Encoded]:
    """Yields all pairs as token ids, in order, some thousands at a time.

    Args:
      bpe_dropout: as `dropout` of `Tokenizer.spell`; 0 for `Tokenizer.encode`.
      spellings: how often all pairs are gone through. With a dropout they are spelt in another way
        each time, always the same ways.

    Raises: ValueError as `Tokenizer.spell`.
    """
    seeds = itertools.count()

    def encode(texts: list[str], side: Side) -> Sentences:
        if not bpe_dropout:
            return Sentences.from_lists(tokenizer.encode(texts, side))
        rows = tokenizer.spell(texts, side, dropout=bpe_dropout, seed=next(seeds))
        return Sentences.from_lists(rows)

    for _ in range(spellings):
        for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
            some = pairs[start : start + _PAIRS_AT_A_TIME]
            yield Encoded(
                encode([source for source, _ in some], "source"),
                encode([target for _, target in some], "target"),
            )


def join(parts: Iterable[Encoded]) -> Encoded:
    """Puts pairs after others."""
    parts = list(parts)
    return Encoded(
        Sentences.join(part.source for part in parts), Sentences.join(part.target for part in parts)
    )


def encode_pairs(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer) -> Encoded:
    """Returns all pairs as token ids, in order."""
    return join(encode_in_parts(pairs, tokenizer))


def write_encoded(folder: Path, parts: Iterable[Encoded]) -> None:
    """Writes pairs to files in a folder, of which no more than a part need be in memory."""
    lengths: dict[str, list[np.ndarray]] = {side: [np.zeros(0, np.int64)] for side in _SIDES}
    with (
        open(_path(folder, "source", "tokens"), "wb") as source,
        open(_path(folder, "target", "tokens"), "wb") as target,
    ):
        for part in parts:
            for side, sentences, file in zip(
                _SIDES, (part.source, part.target), (source, target), strict=True
            ):
                file.write(sentences.tokens.astype("<i4").data)
                lengths[side].append(sentences.lengths)
    for side in _SIDES:
        starts = _starts(np.concatenate(lengths[side]))
        _path(folder, side, "starts").write_bytes(starts.astype("<i8").data)


def read_encoded(folder: Path) -> Encoded:
    """Returns what `write_encoded` wrote; tokens are read from the files when they are needed."""
    sides = []
    for side in _SIDES:
        path = _path(folder, side, "tokens")
        # An empty file cannot be mapped.
        is_empty = path.stat().st_size == 0
        tokens = np.zeros(0, np.int32) if is_empty else np.memmap(path, "<i4", mode="r")
        starts = np.fromfile(_path(folder, side, "starts"), "<i8")
        sides.append(Sentences(np.asarray(tokens), starts))
    return Encoded(*sides)


def _path(folder: Path, side: str, what: str) -> Path:
    return folder / f"{side}.{what}"
