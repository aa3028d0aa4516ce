"""What the heads of a model do with one sentence: their weights, and names for rows and columns."""

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WORD_START = "\u2581"
_GOES_ON = "@@"
_CONTINUED = "\N{MIDDLE DOT}"


@dataclass(frozen=True)
class AttentionMap:
    """One kind of attention (encoder, decoder or cross), of all layers and heads.

    Attributes:
      weights_LHTS: float32 in [0, 1], L being the layers; row t says how much query t looks at each
        key.
      queries: T names.
      keys: S names.

    Raises: ValueError if the weights are not of the names' shape, or not within [0, 1].
    """

    weights_LHTS: np.ndarray
    queries: list[str]
    keys: list[str]

    def __post_init__(self) -> None:
        shape, expected = self.weights_LHTS.shape, (len(self.queries), len(self.keys))
        if len(shape) != 4 or shape[2:] != expected or 0 in shape:
            raise ValueError(
                f"Attention weights of shape {shape} do not fit {expected[0]} queries and "
                f"{expected[1]} keys. Give (layers, heads, {expected[0]}, {expected[1]}), none of "
                "them 0."
            )
        low, high = float(self.weights_LHTS.min()), float(self.weights_LHTS.max())
        # Rounding may take a sum of parts a little past 1.
        if not -1e-3 <= low <= high <= 1 + 1e-3:
            raise ValueError(
                f"Attention weights lie between {low:g} and {high:g}, expected within [0, 1]. Use "
                "an attention function whose weights are shares."
            )


def readable(pieces: Sequence[str], starts_word: Sequence[bool]) -> list[str]:
    """Returns the pieces of a vocabulary as a reader knows them.

    The marks of a word's start and of its going on are left out; a piece that goes on with a word
    begins with a middle dot instead, punctuation and special pieces excepted.

    Args:
      starts_word: of each piece, as `Tokenizer.starts_word` has it.
    """
    names = []
    for place, piece in enumerate(pieces):
        name = piece.removeprefix(_WORD_START)
        if place + 1 < len(pieces) and not starts_word[place + 1]:
            name = name.removesuffix(_GOES_ON) or name
        is_continued = place > 0 and not starts_word[place] and not _stands_alone(piece)
        names.append(f"{_CONTINUED}{name}" if is_continued else name or _WORD_START)
    return names


def words(names: Sequence[str]) -> dict[str, int]:
    """Returns the words that `readable` names spell, and where each begins for the first time."""
    starts = [place for place, name in enumerate(names) if name[:1] != _CONTINUED or not place]
    found: dict[str, int] = {}
    for start, end in itertools.pairwise([*starts, len(names)]):
        word = "".join([names[start], *(name[1:] for name in names[start + 1 : end])])
        found.setdefault(word, start)
    return found


def _stands_alone(piece: str) -> bool:
    is_special = piece.startswith("<") and piece.endswith(">")
    return is_special or all(unicodedata.category(character)[0] == "P" for character in piece)
