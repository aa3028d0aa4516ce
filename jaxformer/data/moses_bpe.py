"""A vocabulary of byte-pair encoding over Moses's tokens, lower-cased, as subword-nmt makes it.

The text form of many published results (Wu et al., 2021, on Multi30k): letters are made small,
punctuation is normalised and divided from words, and each token is spelt in pieces, all but its
last ending in "@@". What the training text did not spell is UNK. `decode` gives plain text again,
lower-cased. Prefer SentencePiece where no such result is to be reproduced.
"""

import contextlib
import io
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxformer.data.tokenizer import Side, Tokenizer
from jaxformer.model.tokens import BOS, EOS, PAD, UNK
from jaxformer.moses import moses

_GOES_ON = "@@"
# The end of a word, in subword-nmt's merges.
_END = "</w>"
_SPECIAL = {PAD: "<pad>", BOS: "<s>", EOS: "</s>", UNK: "<unk>"}


class MosesBpe(Tokenizer):
    """Text to token ids and back."""

    FILE_NAME = "moses_bpe.json"

    def __init__(self, model: bytes) -> None:
        """Takes the JSON that `train_moses_bpe` made: languages, merges and pieces.

        Raises: ValueError if it is not that, or as `jaxformer.moses.Moses`.
        """
        try:
            fields = json.loads(model)
            languages = {side: str(fields[side]) for side in ("source", "target")}
            merges, pieces = list(map(str, fields["merges"])), list(map(str, fields["pieces"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError("This is not a vocabulary of Moses BPE, or it is damaged.") from error
        if pieces[: len(_SPECIAL)] != list(_SPECIAL.values()) or any(
            re.fullmatch(r"\S+ \S+", merge) is None for merge in merges
        ):
            raise ValueError("This is not a vocabulary of Moses BPE, or it is damaged.")
        super().__init__(model)
        self._pieces = pieces
        self._ids = {piece: id for id, piece in enumerate(pieces)}
        self._moses = {side: moses(language) for side, language in languages.items()}
        self._merges = _apply(merges)
        # It keeps what it has spelt, and `encode` must not find a spelling by chance there.
        self._dropped = _apply(merges)

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the special ones included."""
        return len(self._pieces)

    def encode(self, sentences: Sequence[str], side: Side = "source") -> list[np.ndarray]:
        """One int32 array a sentence, its last token EOS; of a blank sentence EOS alone."""
        return self._encode(sentences, side, self._merges.segment_tokens)

    def spell(
        self, sentences: Sequence[str], side: Side = "source", *, dropout: float, seed: int
    ) -> list[np.ndarray]:
        """As `Tokenizer.spell`; without `every_piece` some of the pieces are UNK."""
        # subword-nmt draws from the process's generator.
        before = random.getstate()
        random.seed(seed)
        try:
            return self._encode(
                sentences, side, lambda tokens: self._dropped.segment_tokens(tokens, dropout)
            )
        finally:
            random.setstate(before)

    def _encode(
        self, sentences: Sequence[str], side: Side, segment: Callable[[list[str]], list[str]]
    ) -> list[np.ndarray]:
        rows = []
        for sentence in sentences:
            tokens = self._moses[side].tokenise(sentence, lowercase=True, normalise=True)
            ids = (self._ids.get(piece, UNK) for piece in segment(tokens))
            rows.append(np.array([*ids, EOS], np.int32))
        return rows

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text up to the first EOS, in small letters; what is unknown reads <unk>."""
        content = []
        for id in ids:
            if id == EOS:
                break
            if id not in (PAD, BOS):
                content.append(self._pieces[int(id)])
        text = "".join(
            piece.removesuffix(_GOES_ON) if piece.endswith(_GOES_ON) else f"{piece} "
            for piece in content
        )
        return self._moses["target"].detokenise(text.split())

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The piece of every id as it stands in the vocabulary, special ones included."""
        return [self._pieces[int(id)] for id in ids]

    def starts_word(self, ids: Sequence[int] | np.ndarray) -> list[bool]:
        """Whether each piece begins a token of Moses's."""
        return [True, *(not piece.endswith(_GOES_ON) for piece in self.pieces(ids))][: len(ids)]


def train_moses_bpe(
    pairs: Iterable[tuple[str, str]],
    num_merges: int,
    *,
    source: str,
    target: str,
    every_piece: bool = False,
) -> MosesBpe:
    """Learns the merges of both languages together; the same text gives the same bytes.

    Args:
      pairs: of the training split, read once.
      num_merges: how often the most frequent pair of pieces becomes one. The vocabulary is what
        these spell the training text with, and a little smaller as a rule.
      source, target: language codes.
      every_piece: has what merges leave behind in the vocabulary too, for `MosesBpe.spell`.

    Raises: ValueError if there is no text, or it does not allow so many merges; or as
      `jaxformer.moses.Moses`.
    """
    languages = (moses(source), moses(target))
    words: Counter[str] = Counter()
    for pair in pairs:
        for language, text in zip(languages, pair, strict=True):
            words.update(language.tokenise(text, lowercase=True, normalise=True))
    if not words:
        raise ValueError("There is no text to train a vocabulary on: every sentence is blank.")
    merges = _learn(words, num_merges)
    if len(merges) < num_merges:
        raise ValueError(
            f"A vocabulary of {num_merges} merges is larger than the training text allows; choose "
            f"at most {len(merges)}."
        )
    segmenter = _apply(merges)
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for piece in segmenter.segment_tokens([word]):
            counts[piece] += count
    if every_piece:
        counts.update(dict.fromkeys(_every_piece(words, merges), 0))
    pieces = sorted(counts, key=lambda piece: (-counts[piece], piece))
    fields = {
        "source": source,
        "target": target,
        "merges": merges,
        # A piece of text may look like a special one.
        "pieces": [*_SPECIAL.values(), *(p for p in pieces if p not in _SPECIAL.values())],
    }
    return MosesBpe(json.dumps(fields, ensure_ascii=False, indent=0).encode())


def _learn(words: Counter[str], num_merges: int) -> list[str]:
    """Returns lines of two pieces each, the most frequent pair first."""
    learn_bpe, _ = _subword_nmt()
    # In a fixed order, which decides between pairs that are equally frequent.
    lines = [f"{word} {count}" for word, count in sorted(words.items())]
    codes = io.StringIO()
    if max(map(len, words)) < 2:
        return []
    # It prints its progress.
    with contextlib.redirect_stderr(io.StringIO()):
        learn_bpe(lines, codes, num_merges, is_dict=True)
    return codes.getvalue().splitlines()[1:]


def _every_piece(words: Iterable[str], merges: Sequence[str]) -> set[str]:
    """Returns the characters and the results of all merges, as they stand within and at the end."""
    pieces = {character + _GOES_ON for word in words for character in word[:-1]}
    pieces |= {word[-1] for word in words}
    for merge in merges:
        whole = merge.replace(" ", "")
        pieces.add(whole.removesuffix(_END) if whole.endswith(_END) else whole + _GOES_ON)
    return pieces


def _apply(merges: Sequence[str]) -> Any:
    codes = io.StringIO("\n".join(["#version: 0.2", *merges]) + "\n")
    _, segmenter = _subword_nmt()
    # By their number, or the text of none would be read as a bad line, which ends the process.
    return segmenter(codes, merges=len(merges), separator=_GOES_ON)


def _subword_nmt() -> tuple[Any, Any]:
    """Returns what learns merges, and what applies them."""
    try:
        from subword_nmt.apply_bpe import BPE
        from subword_nmt.learn_bpe import learn_bpe
    except ImportError as error:
        raise ValueError(
            "This vocabulary needs subword-nmt, which is not installed. Install jaxformer[moses]."
        ) from error
    return learn_bpe, BPE
