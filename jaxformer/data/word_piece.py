"""Texts as the pieces that a trained encoder knows, each with its place in the text."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Pieces(NamedTuple):
    """One text for an encoder.

    Attributes:
      id_S: int32, the special pieces at both ends included.
      spans: of each piece, where it begins and ends in the text, in characters; (0, 0) where it is
        special.
    """

    id_S: np.ndarray
    spans: list[tuple[int, int]]


class WordPiece:
    """The vocabulary of a tokenizer.json, as Hugging Face writes it.

    Args:
      path: of the file.
      longest: pieces that a text may have, the special ones included; what follows is cut off.

    Raises: ValueError if the file is not there or is none of that kind, or if the package
      tokenizers is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], longest: int = 256) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ValueError(
                "Reading a tokenizer.json needs the package tokenizers, which is not installed. "
                "Install jaxformer[memory]."
            ) from error
        with open(path, encoding="utf-8") as file:
            text = file.read()
        try:
            self._tokenizer = Tokenizer.from_str(text)
        # The package raises plain Exceptions.
        except Exception as error:
            raise ValueError(
                f"{os.fspath(path)!r} is not a tokenizer.json, or it is damaged ({error})."
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(longest)
        self.longest = longest

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """Returns each text's pieces; a text of no words has just the special ones."""
        return [
            Pieces(np.array(found.ids, np.int32), found.offsets)
            for found in self._tokenizer.encode_batch(list(texts))
        ]
