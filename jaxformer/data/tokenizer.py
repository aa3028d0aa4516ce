"""What the rest of the package asks of a vocabulary that source and target share (section 5.1)."""

import abc
import hashlib
import os
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np

from jaxformer.files import as_path, replace_file

Side = Literal["source", "target"]


class Tokenizer(abc.ABC):
    """Text to token ids and back."""

    FILE_NAME: ClassVar[str]

    def __init__(self, model: bytes) -> None:
        """Takes the content of a file that `save` wrote.

        Raises: ValueError if it is not that.
        """
        self._model = model

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads the file that `save` wrote.

        Raises: OSError if it cannot be read, ValueError if it is not a vocabulary of this kind.
        """
        try:
            return cls(as_path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes folder/FILE_NAME whole or not at all, making the folder if need be."""
        replace_file(as_path(folder) / self.FILE_NAME, self._model)

    @property
    def content(self) -> bytes:
        """What `save` writes."""
        return self._model

    @property
    def fingerprint(self) -> str:
        """sha256 of the file, in hexadecimal."""
        return hashlib.sha256(self._model).hexdigest()

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of pieces, the special ones included."""

    @abc.abstractmethod
    def encode(self, sentences: Sequence[str], side: Side = "source") -> list[np.ndarray]:
        """One int32 array a sentence, its last token EOS; of a blank sentence EOS alone.

        Args:
          side: the language of the sentences, for a tokenizer to which that makes a difference.
        """

    def spell(
        self, sentences: Sequence[str], side: Side = "source", *, dropout: float, seed: int
    ) -> list[np.ndarray]:
        """As `encode`, but each merge of pieces is passed over with probability `dropout`.

        That is BPE-dropout (Provilkov et al., "BPE-Dropout: Simple and Effective Subword
        Regularization", 2020), for training text; the same seed gives the same pieces.

        Raises: ValueError if the vocabulary is not one of merges.
        """
        del sentences, side, dropout, seed
        raise ValueError(f"{type(self).__name__} is no vocabulary of merges: none can be dropped.")

    @abc.abstractmethod
    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text, in the target language, up to the first EOS, without special tokens."""

    @abc.abstractmethod
    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The piece of every id as it stands in the vocabulary, special ones included."""

    @abc.abstractmethod
    def starts_word(self, ids: Sequence[int] | np.ndarray) -> list[bool]:
        """Whether a text may be divided before each id, between two words."""
