"""The models and the batches that all sides of the benchmark work on.

Standard library and NumPy only: it is imported in the peers' processes too.
"""

import os
from dataclasses import dataclass

import numpy as np

# As in jaxformer.model.tokens, which would bring jax along.
PAD, BOS, EOS = 0, 1, 2
_FIRST_WORD = 4
_NUM_BATCHES = 8
_NUM_SENTENCES = 256

Batches = list[tuple[np.ndarray, np.ndarray]]
"""(source_BS, target_BT) each, int32."""


@dataclass(frozen=True)
class Size:
    """A model, and the shape of the batches that it is trained on.

    Attributes:
      layers: of either stack.
      rows, length: a batch has so many sentences of so many tokens on either side, EOS included.
    """

    vocab_size: int
    d_model: int
    d_ff: int
    num_heads: int
    layers: int
    rows: int
    length: int
    dropout_rate: float

    @property
    def tokens(self) -> int:
        """Target tokens of a batch."""
        return self.rows * self.length


SIZES = {
    "tiny": Size(10_000, 128, 256, 4, 4, rows=256, length=16, dropout_rate=0.3),
    "base": Size(37_000, 512, 2048, 8, 6, rows=64, length=32, dropout_rate=0.1),
    # For the tests of the benchmark itself; no vocabulary with all bytes is smaller than 261.
    "smoke": Size(293, 16, 24, 2, 1, rows=62, length=6, dropout_rate=0.1),
}
LABEL_SMOOTHING = 0.1
DECODED_BATCHES = 2
"""Batches whose sources are decoded."""


def pieces(size: Size) -> list[str]:
    """Returns a vocabulary for the exported model: beyond the special ones, numbers."""
    return ["<pad>", "<s>", "</s>", "<unk>", *map(str, range(_FIRST_WORD, size.vocab_size))]


def write_batches(path: str | os.PathLike[str], size: Size, seed: int = 0) -> None:
    """Writes batches for every process to read."""
    np.save(path, draw_batches(size, seed), allow_pickle=False)


def draw_batches(size: Size, seed: int = 0) -> np.ndarray:
    """Returns batches, source and target, of random words: full rows that end in EOS."""
    generator = np.random.default_rng(seed)
    shape = (_NUM_BATCHES, 2, size.rows, size.length)
    tokens = generator.integers(_FIRST_WORD, size.vocab_size, shape, np.int32)
    tokens[..., -1] = EOS
    return tokens


def draw_sentences(size: Size, seed: int = 0) -> list[np.ndarray]:
    """Returns sentences of random words that end in EOS, of 3 to 60 tokens, about 20 on average."""
    generator = np.random.default_rng(seed)
    lengths = np.clip(generator.lognormal(2.85, 0.6, _NUM_SENTENCES).round(), 3, 60).astype(int)
    return [
        np.append(generator.integers(_FIRST_WORD, size.vocab_size, length - 1, np.int32), EOS)
        for length in lengths.tolist()
    ]


def read_batches(path: str | os.PathLike[str]) -> Batches:
    """Returns what `write_batches` wrote."""
    tokens = np.load(path, allow_pickle=False)
    return [(source_BS, target_BT) for source_BS, target_BT in tokens]
