"""What training reads: the vocabulary, the encoded text and the batching plan."""

import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import jaxformer.data
import jaxformer.moses
from jaxformer.data.batching import BatchPlan
from jaxformer.data.bracket_vocabulary import BracketVocabulary, train_bracket_vocabulary
from jaxformer.data.corpus import Corpus
from jaxformer.data.encoded import (
    Encoded,
    encode_in_parts,
    encode_pairs,
    join,
    read_encoded,
    write_encoded,
)
from jaxformer.data.kept import keep
from jaxformer.data.moses_bpe import MosesBpe, train_moses_bpe
from jaxformer.data.pipeline import check_evaluable
from jaxformer.data.sentence_piece import SentencePiece, train_sentence_piece
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.files import as_path, read_json

_PAIRS_LEARNT_FROM = 1_000_000
_SIZES = "sizes.json"

MOSES_BPE = "moses_bpe"
BRACKETS = "brackets"

_KINDS: dict[str, type[Tokenizer]] = {
    kind.FILE_NAME: kind for kind in (SentencePiece, MosesBpe, BracketVocabulary)
}


def tokenizer_folder(workdir: str | os.PathLike[str]) -> Path:
    """Where a run keeps its vocabulary."""
    return as_path(workdir) / "tokenizer"


def learn_tokenizer(
    corpus: Corpus,
    vocab_size: int,
    vocab_type: str,
    *,
    source: str,
    target: str,
    every_piece: bool = False,
    cache_dir: Path | None = None,
) -> Tokenizer:
    """Trains the vocabulary that both languages share, on the training split alone (5.1).

    Of more than a million pairs SentencePiece learns from every n-th, with the least n that leaves
    at most a million.

    Args:
      vocab_size: pieces; for moses_bpe the merges that they come from; for brackets those of the
        source.
      vocab_type: moses_bpe, brackets, or a type of SentencePiece's.
      source, target: language codes.
      every_piece: as for `train_moses_bpe`; the other vocabularies have every piece anyway.
      cache_dir: what is learnt is kept there, where the same is found again; None: nowhere.

    Raises: ValueError as `Corpus.pairs`, `train_sentence_piece` and `train_moses_bpe`.
    """

    def learn() -> Tokenizer:
        pairs = corpus.pairs("train")
        if vocab_type == BRACKETS:
            return train_bracket_vocabulary(pairs, vocab_size)
        if vocab_type == MOSES_BPE:
            return train_moses_bpe(
                pairs, vocab_size, source=source, target=target, every_piece=every_piece
            )
        return train_sentence_piece(_sample(pairs), vocab_size, model_type=vocab_type)

    if cache_dir is not None:
        facts = (vocab_size, vocab_type, source, target, every_piece)
        folder = cache_dir / _name(corpus, "vocabulary", *facts)
        if keep(folder, lambda new: learn().save(new)):
            return next(
                kind.load(folder / name)
                for name, kind in _KINDS.items()
                if (folder / name).is_file()
            )
    return learn()


def _sample(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yields the sentences of every n-th pair, of at most `_PAIRS_LEARNT_FROM`."""
    every = -(-len(pairs) // _PAIRS_LEARNT_FROM) or 1
    at_a_time = 1024 * every
    for start in range(0, len(pairs), at_a_time):
        for pair in pairs[start : start + at_a_time : every]:
            yield from pair


def _name(corpus: Corpus, *facts: str | float) -> str:
    """Names what is made from a corpus by all that it depends on."""
    makers = ("sentencepiece", "sacremoses", "subword-nmt")
    found = [
        f"{each.metadata['name']} {each.version}"
        for name in makers
        for each in importlib.metadata.distributions(name=name)
    ]
    everything = json.dumps([_code(), corpus.stamp, found, *facts])
    return hashlib.sha256(everything.encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    """Returns a sum of the code that makes of a text what is kept of it."""
    parts = [*sorted(Path(jaxformer.data.__file__).parent.glob("*.py")), Path(__file__)]
    parts.append(Path(jaxformer.moses.__file__))
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def load_tokenizer(workdir: str | os.PathLike[str], fingerprint: str) -> Tokenizer:
    """Reads a run's vocabulary.

    Args:
      fingerprint: what a checkpoint says that the vocabulary was.

    Raises: ValueError if it is missing, damaged, or another one.
    """
    folder = tokenizer_folder(workdir)
    found = [name for name in _KINDS if (folder / name).is_file()]
    if not found:
        raise ValueError(
            f"{folder} holds no vocabulary ({' or '.join(_KINDS)}), and the checkpoints beside "
            "it are of no use without it. Put it back, or train in another --workdir."
        )
    path = folder / found[0]
    # Before it is parsed: the parser is not made for files that somebody has tampered with.
    if hashlib.sha256(path.read_bytes()).hexdigest() != fingerprint:
        raise ValueError(
            f"{path} is not the vocabulary that the checkpoints were trained with. Put that one "
            "back, or train in another --workdir."
        )
    return _KINDS[found[0]].load(path)


@dataclass(frozen=True)
class TrainingData:
    """Encoded text and its plan.

    Attributes:
      train: pairs to train on.
      left_out: training pairs that are longer than the limit.
      valid: all pairs of the validation split, None if there is none.
      plan: batches of `train`.
      fingerprint: sha256 of `train`, which tells whether a run can be gone on with.
    """

    train: Encoded
    left_out: int
    valid: Encoded | None
    plan: BatchPlan
    fingerprint: str


def prepare_data(
    corpus: Corpus,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    source_tokens: int,
    target_tokens: int,
    rows_multiple: int = 1,
    bpe_dropout: float = 0.0,
    spellings: int = 1,
    cache_dir: Path | None = None,
) -> TrainingData:
    """Encodes the training and validation splits and plans the batches.

    Where there is a `cache_dir`, the training split is encoded once and then read from the disk as
    batches need it; what has become damaged there is made anew.

    Args:
      max_length: tokens; training pairs with a longer side are left out.
      source_tokens, target_tokens, rows_multiple: as for `BatchPlan`.
      bpe_dropout, spellings: of the training split, as for `encode_in_parts`; each spelling of a
        pair is a training pair.
      cache_dir: as for `learn_tokenizer`.

    Raises: ValueError if no pair is short enough, or as `BatchPlan` and `check_evaluable`.
    """
    dropping = {"bpe_dropout": bpe_dropout, "spellings": spellings}
    train = _encode_train(corpus, tokenizer, max_length, dropping, cache_dir)
    num_pairs = len(corpus.pairs("train")) * spellings
    if not len(train):
        raise ValueError(
            f"None of the {num_pairs} training pairs has at most {max_length} tokens a side. "
            "Raise data.max_length."
        )
    make_plan = functools.partial(
        BatchPlan,
        train.source.lengths,
        train.target.lengths,
        source_tokens=source_tokens,
        target_tokens=target_tokens,
        rows_multiple=rows_multiple,
    )
    budgets = (max_length, source_tokens, target_tokens, rows_multiple)
    facts = (tokenizer.fingerprint, *budgets, *dropping.values())
    plan = _plan(make_plan, cache_dir and cache_dir / _name(corpus, "plan", *facts))
    valid = encode_pairs(corpus.pairs("valid"), tokenizer) if "valid" in corpus.splits else None
    if valid is not None:
        check_evaluable(valid, "valid", max_length)
    return TrainingData(
        train=train,
        left_out=num_pairs - len(train),
        valid=valid,
        plan=plan,
        fingerprint=fingerprint(train),
    )


def _encode_train(
    corpus: Corpus,
    tokenizer: Tokenizer,
    max_length: int,
    dropping: Mapping[str, Any],
    cache_dir: Path | None,
) -> Encoded:
    """Returns the training pairs that are short enough."""

    def parts() -> Iterator[Encoded]:
        pairs = corpus.pairs("train")
        return (part.within(max_length) for part in encode_in_parts(pairs, tokenizer, **dropping))

    if cache_dir is not None:
        facts = (tokenizer.fingerprint, max_length, *dropping.values())
        folder = cache_dir / _name(corpus, "train", *facts)
        if keep(folder, lambda new: write_encoded(new, parts())):
            return read_encoded(folder)
    return join(parts())


def _plan(make_plan: Callable[..., BatchPlan], folder: Path | None) -> BatchPlan:
    """Plans batches, with the row sizes that an earlier start has chosen and kept."""
    chosen: list[BatchPlan] = []

    def choose(new: Path) -> None:
        chosen.append(make_plan())
        (new / _SIZES).write_text(json.dumps(chosen[0].sizes), encoding="ascii")

    is_kept = folder is not None and keep(folder, choose)
    if chosen:
        return chosen[0]
    if not is_kept:
        return make_plan()
    return make_plan(sizes=[(source, target) for source, target in read_json(folder / _SIZES)])


def fingerprint(encoded: Encoded) -> str:
    """Returns the sha256 of all tokens."""
    # Every sentence ends in EOS, so that tokens tell where one ends.
    digest = hashlib.sha256()
    for sentences in (encoded.source, encoded.target):
        digest.update(np.ascontiguousarray(sentences.tokens).data)
    return digest.hexdigest()
