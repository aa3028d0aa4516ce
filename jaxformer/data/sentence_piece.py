"""A vocabulary as a SentencePiece model, of text as it is: the default.

Text is taken as it is, except that spaces at its ends are dropped and a run of spaces is one space;
SentencePiece's mark for a space, U+2581, counts as one. Apart from that `decode(encode(text))` is
`text`: what the training text lacked is spelt in bytes, so nothing is unknown.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import sentencepiece as spm

from jaxformer.data.tokenizer import Side, Tokenizer
from jaxformer.model.tokens import BOS, EOS, PAD, UNK

MODEL_TYPES = ("bpe", "unigram", "word", "char")

_SPACE = "\u2581"
# What every vocabulary holds: the four special tokens and the 256 bytes.
_FIXED_PIECES = 4 + 256
# The rarest characters, one in 10,000 of the text, are spelt in bytes rather than given a piece.
_CHARACTER_COVERAGE = 0.9999


class SentencePiece(Tokenizer):
    """Text to token ids and back, both sides alike."""

    FILE_NAME = "sentencepiece.model"

    def __init__(self, model: bytes) -> None:
        """Takes a serialised SentencePiece model.

        Raises: ValueError if it is not one, or its special ids are not this project's.
        """
        super().__init__(model)
        self._processor = spm.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except (RuntimeError, ValueError) as error:
            raise ValueError("This is not a SentencePiece model, or it is damaged.") from error
        processor = self._processor
        ids = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
        if ids != (PAD, BOS, EOS, UNK):
            raise ValueError(
                f"The vocabulary has the pad, bos, eos and unk ids {ids}, expected "
                f"{(PAD, BOS, EOS, UNK)}; train it with `train_sentence_piece`."
            )

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the special ones and the bytes included."""
        return self._processor.vocab_size()

    def encode(self, sentences: Sequence[str], side: Side = "source") -> list[np.ndarray]:
        """One int32 array a sentence, its last token EOS; of a blank sentence EOS alone."""
        del side
        texts = [sentence.replace(_SPACE, " ") for sentence in sentences]
        rows = self._processor.encode(texts, out_type=int, add_eos=True)
        return [np.array(row, np.int32) for row in rows]

    def spell(
        self, sentences: Sequence[str], side: Side = "source", *, dropout: float, seed: int
    ) -> list[np.ndarray]:
        """As `Tokenizer.spell`, of a model of the type bpe."""
        del side
        texts = [sentence.replace(_SPACE, " ") for sentence in sentences]
        # Its generator is the process's, and several threads would share the texts by chance.
        spm.set_random_generator_seed(seed)
        rows = self._processor.encode(
            texts,
            out_type=int,
            add_eos=True,
            enable_sampling=True,
            alpha=dropout,
            nbest_size=-1,
            num_threads=1,
        )
        return [np.array(row, np.int32) for row in rows]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text up to the first EOS, without special tokens.

        Bytes that are no UTF-8, which a model may generate, read as U+FFFD.
        """
        text = self._processor.decode(_content(ids))
        return text.replace(_SPACE, " ").strip(" ")

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The piece of every id as it stands in the vocabulary, special ones included."""
        return self._processor.id_to_piece([int(id) for id in ids])

    def starts_word(self, ids: Sequence[int] | np.ndarray) -> list[bool]:
        """Whether each piece begins with a space."""
        return [piece.startswith(_SPACE) for piece in self.pieces(ids)]


def train_sentence_piece(
    sentences: Iterable[str], vocab_size: int, *, model_type: str = "bpe"
) -> SentencePiece:
    """Trains a vocabulary of exactly `vocab_size` pieces; the same text gives the same bytes.

    Args:
        sentences: source and target sentences of the training split, read once.
        vocab_size: special tokens and bytes included.
        model_type: "bpe" as in section 5.1, "unigram", "word" or "char".

    Raises: ValueError if there is no text, or it does not allow a vocabulary of this size; the
        message names the largest or smallest that it allows.
    """
    if model_type not in MODEL_TYPES:
        raise ValueError(
            f"Unknown vocabulary type {model_type!r}; choose one of {', '.join(MODEL_TYPES)}."
        )
    if vocab_size <= _FIXED_PIECES:
        raise ValueError(
            f"A vocabulary of {vocab_size} is too small, since the special tokens and the bytes "
            f"alone take {_FIXED_PIECES}; choose more."
        )
    text = _Text(sentences)
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(text),
            model_writer=model,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=_CHARACTER_COVERAGE,
            byte_fallback=True,
            normalization_rule_name="identity",
            max_sentence_length=1 << 30,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            # A constant, since unigram's sums depend on how the text is divided.
            num_threads=16,
            # Errors only; progress would go to stderr.
            minloglevel=2,
        )
    except RuntimeError as error:
        if text.error is not None:
            raise text.error from None
        raise _explain(error, vocab_size, text) from error
    tokenizer = SentencePiece(model.getvalue())
    if tokenizer.vocab_size < vocab_size:
        raise _too_large(vocab_size, tokenizer.vocab_size)
    return tokenizer


class _Text:
    """Passes sentences on and remembers what SentencePiece forgets: if there were any, what failed.

    SentencePiece turns an exception of its iterator into a RuntimeError of its own.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self._sentences = sentences
        self.is_blank = True
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for sentence in self._sentences:
                self.is_blank = self.is_blank and not sentence.strip()
                yield sentence
        except BaseException as error:
            self.error = error
            raise


def _explain(error: RuntimeError, vocab_size: int, text: _Text) -> Exception:
    """What SentencePiece says in terms of its source code, as a sentence."""
    if text.is_blank:
        return ValueError("There is no text to train a vocabulary on: every sentence is blank.")
    message = str(error)
    if largest := re.search(r"too high .*<= (\d+)", message):
        return _too_large(vocab_size, int(largest[1]))
    if smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return ValueError(
            f"A vocabulary of {vocab_size} is too small for the special tokens, the bytes and the "
            f"characters of the text; choose at least {smallest[1]}."
        )
    return error


def _too_large(vocab_size: int, largest: int) -> ValueError:
    return ValueError(
        f"A vocabulary of {vocab_size} is larger than the training text allows; choose at most "
        f"{largest}."
    )


def _content(ids: Sequence[int] | np.ndarray) -> list[int]:
    content = []
    for id in ids:
        if id == EOS:
            break
        if id not in (PAD, BOS):
            content.append(int(id))
    return content
