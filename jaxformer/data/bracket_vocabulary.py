"""A vocabulary for parsing: word pieces of the sentences, and one token for each symbol of trees.

Both sides share one matrix (section 3.4) and nothing else: the pieces are learnt from the sentences
alone, and a symbol such as `(NP` or `NN` is a token of its own, after the pieces, even where a
sentence spells the same. So a tree has exactly as many tokens as symbols.
"""

import base64
import binascii
import json
from collections.abc import Sequence

import numpy as np

from jaxformer.data.sentence_piece import SentencePiece, train_sentence_piece
from jaxformer.data.tokenizer import Side, Tokenizer
from jaxformer.decode import TreeGrammar
from jaxformer.model.tokens import BOS, EOS, PAD, UNK


class BracketVocabulary(Tokenizer):
    """Sentences (source) and linear trees (target) to token ids, and trees back."""

    FILE_NAME = "brackets.json"

    def __init__(self, model: bytes) -> None:
        """Takes the JSON that `train_bracket_vocabulary` made: the pieces' model and the symbols.

        Raises: ValueError if it is not that.
        """
        try:
            fields = json.loads(model)
            pieces = base64.b64decode(fields["pieces"], validate=True)
            symbols = list(map(str, fields["symbols"]))
        except (ValueError, TypeError, KeyError, RecursionError, binascii.Error) as error:
            raise ValueError("This is not a vocabulary of brackets, or it is damaged.") from error
        super().__init__(model)
        self._words = SentencePiece(pieces)
        self._symbols = symbols
        self._first = self._words.vocab_size
        self._ids = {symbol: self._first + number for number, symbol in enumerate(symbols)}

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the special ones and the bytes included, and of symbols."""
        return self._first + len(self._symbols)

    def encode(self, sentences: Sequence[str], side: Side = "source") -> list[np.ndarray]:
        """One int32 array a sentence or tree, its last token EOS; of a blank one EOS alone.

        A symbol that no tree of the training text had is UNK.
        """
        if side == "source":
            return self._words.encode(sentences)
        return [
            np.array([*(self._ids.get(symbol, UNK) for symbol in tree.split()), EOS], np.int32)
            for tree in sentences
        ]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The symbols up to the first EOS.

        What is no symbol stands in brackets, as `(<unk>)`, which no linear tree holds.
        """
        found = []
        for id, piece in zip(ids, self.pieces(ids), strict=True):
            if id == EOS:
                break
            if id not in (PAD, BOS):
                found.append(piece if id >= self._first else f"({piece})")
        return " ".join(found)

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The piece or symbol of every id, special ones included."""
        return [
            self._symbols[int(id) - self._first]
            if id >= self._first
            else self._words.pieces([int(id)])[0]
            for id in ids
        ]

    def grammar(self) -> TreeGrammar:
        """What a search is held to for outputs that are trees over the words of their inputs."""
        ids = range(self.vocab_size)
        symbols = [*("" for _ in range(self._first)), *self._symbols]
        words = [id < self._first and self.starts_word([id])[0] for id in ids]
        return TreeGrammar(symbols, words, EOS)

    def starts_word(self, ids: Sequence[int] | np.ndarray) -> list[bool]:
        """Whether each piece begins with a space; symbols count as words."""
        return [id >= self._first or self._words.starts_word([int(id)])[0] for id in ids]


def train_bracket_vocabulary(
    pairs: Sequence[tuple[str, str]], vocab_size: int
) -> BracketVocabulary:
    """Learns the pieces of the sentences, and lists the symbols of the trees.

    Args:
      pairs: sentences and linear trees of the training split.
      vocab_size: pieces, special ones and bytes included; the symbols come on top.

    Raises: ValueError as `train_sentence_piece`.
    """
    pieces = train_sentence_piece((sentence for sentence, _ in pairs), vocab_size)
    symbols = sorted({symbol for _, tree in pairs for symbol in tree.split()})
    fields = {"pieces": base64.b64encode(pieces.content).decode(), "symbols": symbols}
    return BracketVocabulary(json.dumps(fields, ensure_ascii=False, indent=0).encode())
