"""What the rest of the package asks of a vocabulary that source and target share (section 5.1)."""

import os
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

Side = Literal["source", "target"]


class Tokenizer(Protocol):
    """Text to token ids and back."""

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the special ones included."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 of the vocabulary, in hexadecimal."""
        ...

    def encode(self, sentences: Sequence[str], side: Side = "source") -> list[np.ndarray]:
        """One int32 array a sentence, its last token EOS; of a blank sentence EOS alone.

        Args:
          side: the language of the sentences, for a tokenizer to which that makes a difference.
        """
        ...

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text, in the target language, up to the first EOS, without special tokens."""
        ...

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The piece of every id as it stands in the vocabulary, special ones included."""
        ...

    def starts_word(self, ids: Sequence[int] | np.ndarray) -> list[bool]:
        """Whether a text may be divided before each id, between two words."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the vocabulary whole or not at all, making the folder if need be."""
        ...
