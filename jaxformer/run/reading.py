"""Texts through a trained encoder: a vector for each text, and what its attention dwells on."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.data.word_piece import Pieces, WordPiece
from jaxformer.io.bert import WEIGHTS, read_bert
from jaxformer.model.salience import received, rolled_out
from jaxformer.model.text_encoder import TextEncoder, hidden_and_weights, pool

TOKENIZER = "tokenizer.json"
ROLLOUT = "rollout"

# Few widths, so that few programs are compiled; and pieces of one batch.
_WIDTH, _BATCH = 8, 2048


class Reading(NamedTuple):
    """One text as an encoder has read it.

    Attributes:
      hidden_SD: a vector for each piece, float32.
      scores: name -> score_S, how much attention each piece receives: "layer 1" and so on, and
        "rollout".
    """

    pieces: Pieces
    hidden_SD: np.ndarray
    scores: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reader:
    """An encoder with its parameters and its vocabulary.

    Attributes:
      digest: SHA-256 of the file of the parameters, which tells encoders apart.
    """

    model: TextEncoder
    params: Any
    word_piece: WordPiece
    digest: str

    @classmethod
    def open(cls, folder: str | os.PathLike[str], longest: int = 256) -> "Reader":
        """Opens a folder with config.json, model.safetensors and tokenizer.json.

        Args:
          longest: pieces of a text that are read.

        Raises: OSError, ValueError: as `read_bert` and `WordPiece`.
        """
        word_piece = WordPiece(Path(folder) / TOKENIZER, longest)
        model, params = read_bert(folder)
        with open(Path(folder) / WEIGHTS, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(model, jax.device_put(params), word_piece, digest)

    @property
    def last_layer(self) -> str:
        """The name of its scores."""
        return f"layer {self.model.num_layers}"

    @property
    def width(self) -> int:
        """Of an embedding."""
        return self.model.d_model

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the texts' embeddings, vector_ND: means over all pieces, of length 1."""
        vector_ND = np.zeros((len(texts), self.width), np.float32)
        for places, token_BS, is_token_BS in _batches(self.word_piece.encode(texts)):
            found_BD = _embed(self.model, self.params, token_BS, is_token_BS)
            vector_ND[places] = np.asarray(found_BD)[: len(places)]
        return vector_ND

    def read(self, texts: Sequence[str]) -> Iterator[tuple[int, Reading]]:
        """Yields the place of each text and what was read; the shortest texts come first."""
        pieces = self.word_piece.encode(texts)
        for places, token_BS, is_token_BS in _batches(pieces):
            hidden_BSD, scores = jax.device_get(
                _read(self.model, self.params, token_BS, is_token_BS)
            )
            for row, place in enumerate(places):
                length = len(pieces[place].id_S)
                yield (
                    place,
                    Reading(
                        pieces[place],
                        hidden_BSD[row, :length],
                        {name: score_BS[row, :length] for name, score_BS in scores.items()},
                    ),
                )


def pool_pieces(reading: Reading, chosen_S: np.ndarray) -> np.ndarray:
    """Returns the embedding of some of a text's pieces, which have seen the whole of it.

    Zeros if none is chosen, as `jaxformer.model.text_encoder.pool` has it.
    """
    total_D = reading.hidden_SD[chosen_S].sum(axis=0)
    return total_D / max(float(np.linalg.norm(total_D)), 1e-12)


@functools.partial(jax.jit, static_argnames="model")
def _embed(
    model: TextEncoder, params: Any, token_BS: jax.Array, is_token_BS: jax.Array
) -> jax.Array:
    hidden_BSD: Any = model.apply({"params": params}, token_BS, is_token_BS)
    return pool(hidden_BSD, is_token_BS)


@functools.partial(jax.jit, static_argnames="model")
def _read(
    model: TextEncoder, params: Any, token_BS: jax.Array, is_token_BS: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    hidden_BSD, weights = hidden_and_weights(model, params, token_BS, is_token_BS)
    layers = {
        f"layer {number}": received(weights_BHSS, is_token_BS)
        for number, weights_BHSS in enumerate(weights, start=1)
    }
    return hidden_BSD, {**layers, ROLLOUT: rolled_out(weights, is_token_BS)}


def _batches(pieces: Sequence[Pieces]) -> Iterator[tuple[list[int], jax.Array, jax.Array]]:
    """Yields (places of the texts, token_BS, is_token_BS): one number of rows for each width."""
    widths: dict[int, list[int]] = {}
    for place, each in enumerate(pieces):
        widths.setdefault(-(-len(each.id_S) // _WIDTH) * _WIDTH, []).append(place)
    for width, places in sorted(widths.items()):
        rows = max(1, _BATCH // width)
        for start in range(0, len(places), rows):
            batch = places[start : start + rows]
            token_BS = np.zeros((rows, width), np.int32)
            is_token_BS = np.zeros((rows, width), bool)
            for row, place in enumerate(batch):
                id_S = pieces[place].id_S
                token_BS[row, : len(id_S)] = id_S
                is_token_BS[row, : len(id_S)] = True
            yield batch, jnp.asarray(token_BS), jnp.asarray(is_token_BS)
