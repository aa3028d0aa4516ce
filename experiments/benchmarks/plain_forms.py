"""The plain form of each trick of the step and of the decoder, put in the trick's place.

    python -m experiments.benchmarks.plain_forms whole_logits train --size=tiny --batches=tiny.npy

is `experiments.benchmarks.ours` with the form of that name; `leads.py` runs it. With `jaxformer`
after the form, it is the command line that follows: `... threefry_dropout jaxformer train ...`.

A form is given the way to replace a name of a module or class, and does so before anything is
traced. Two are no plain forms, but tricks that the model does without: `fused_projections` and
`two_devices`.
"""

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import ours
from jaxformer import train
from jaxformer.cli.main import main as jaxformer_main
from jaxformer.data import pipeline
from jaxformer.decode import search
from jaxformer.decode.candidates import extend
from jaxformer.loss import LossSums, cross_entropy_sums
from jaxformer.model import Cache, Dropout, Mask, MultiHeadAttention, Positions, Transformer, layers
from jaxformer.model.embedding import mask_padded_rows
from jaxformer.model.products import product_in
from jaxformer.model.transformer import Decoder
from jaxformer.run import translation
from jaxformer.sharding import jit_step, make_layout, make_mesh, state_shardings
from jaxformer.train import TrainState

Replace = Callable[[Any, str, Any], None]
"""setattr, or a test's own, which puts back what was there."""


def main() -> int | None:
    """Puts the form in its place that the command line names first, and measures with it.

    Returns: the exit code, if it is a command of jaxformer that is run with it.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], add_help=False)
    parser.add_argument("form", choices=sorted(FORMS))
    chosen, sys.argv[1:] = parser.parse_known_args()
    FORMS[chosen.form](setattr)
    if sys.argv[1:2] == ["jaxformer"]:
        return jaxformer_main(sys.argv[2:])
    ours.main()
    return None


def as_it_is(replace: Replace) -> None:
    """Replaces nothing."""


def threefry_dropout(replace: Replace) -> None:
    """Dropout by `jax.random.bernoulli`, a draw for each mask; of all rows, so on one device."""

    def draw(self: Dropout, x_BTD: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(jnp.stack([self.word_high, self.word_low]))
        keep_BTD = jax.random.bernoulli(key, 1.0 - self.rate, x_BTD.shape)
        kept_BTD = (x_BTD.astype(jnp.float32) / (1.0 - self.rate)).astype(x_BTD.dtype)
        return jnp.where(keep_BTD, kept_BTD, jnp.zeros((), x_BTD.dtype))

    replace(Dropout, "__call__", draw)


def whole_logits(replace: Replace) -> None:
    """The loss of the whole array of logits, float32, and its gradient by jax."""

    def sums(
        hidden_BTD: jax.Array,
        table_WD: jax.Array,
        target_BT: jax.Array,
        label_smoothing: jax.Array | float,
        vocab_size: int,
        product_dtype: Any = None,
        **_: Any,
    ) -> LossSums:
        dtype = product_dtype or hidden_BTD.dtype
        logits_BTW = jnp.einsum(
            "btd,wd->btw",
            hidden_BTD.astype(dtype),
            table_WD.astype(dtype),
            preferred_element_type=jnp.float32,
        )
        logits_BTW = mask_padded_rows(logits_BTW, vocab_size)
        return cross_entropy_sums(logits_BTW, target_BT, label_smoothing, vocab_size)

    replace(train, "projected_cross_entropy_sums", sums)


def kept_state(replace: Replace) -> None:
    """A step that does not write over the state that it is given."""
    make_step = ours.make_step

    def make(*arguments: Any) -> tuple[TrainState, Any]:
        state, step = make_step(*arguments)
        return state, jax.jit(inspect.unwrap(step))

    replace(ours, "make_step", make)


def two_devices(replace: Replace) -> None:
    """Half of the rows on each of two devices, which $XLA_FLAGS has to make of the CPU."""
    make_step, make_model = ours.make_step, ours.make_model
    mesh = make_mesh(2, 1, 1)

    def make(*arguments: Any) -> tuple[TrainState, Any]:
        state, step = make_step(*arguments)
        shardings = state_shardings(state, mesh)
        return jax.device_put(state, shardings), jit_step(inspect.unwrap(step), shardings, mesh)

    replace(ours, "make_model", lambda *sizes: make_model(*sizes).clone(layout=make_layout(mesh)))
    replace(ours, "make_step", make)


class _FusedAttention(MultiHeadAttention):
    """Self-attention whose queries, keys and values are one product; d_k must be d_v."""

    def __call__(
        self, query_BTD: jax.Array, memory_BSD: jax.Array, mask: Mask, positions: Positions
    ) -> jax.Array:
        """Attends from query_BTD over memory_BSD (the same array in self-attention)."""
        if query_BTD is not memory_BSD or self.is_initializing():
            return super().__call__(query_BTD, memory_BSD, mask, positions)
        kernels = [
            projection.variables["params"]["kernel"]
            for projection in (self.query, self.key, self.value)
        ]
        # The heads of all three beside each other.
        kernel_DHK = jnp.concatenate(kernels, axis=1).astype(self.dtype)
        multiply = product_in(self.product_dtype) or jax.lax.dot_general
        projected_BTHK = multiply(query_BTD, kernel_DHK, (((2,), (0,)), ((), ())))
        parts = jnp.split(projected_BTHK, 3, axis=2)
        out_BTHV, _ = self.attention(*parts, mask, positions)
        return self.out(out_BTHV)


def fused_projections(replace: Replace) -> None:
    """One product for queries, keys and values; their three kernels are joined in every step."""
    replace(layers, "MultiHeadAttention", _FusedAttention)


def scanned_layers(replace: Replace) -> None:
    """A loop over the layers of a stack."""
    make_model = ours.make_model
    replace(ours, "make_model", lambda *sizes: make_model(*sizes).clone(scan_layers=True))


def copied_hypotheses(replace: Replace) -> None:
    """Keys and values move with the hypotheses, instead of the numbers of their ancestors."""

    def reorder(cache: Cache, beam_BM: jax.Array) -> Cache:
        def move(x_BPMHK: jax.Array) -> jax.Array:
            return jnp.take_along_axis(x_BPMHK, beam_BM[:, None, :, None, None], axis=2)

        return _each_layer(cache, move)

    replace(translation, "reorder", reorder)


def memory_of_each_hypothesis(replace: Replace) -> None:
    """Keys and values over the encoder's output once a hypothesis, instead of once a sentence."""

    class Attention(MultiHeadAttention):
        """Reads a memory that has a row for each hypothesis."""

        def read(
            self,
            query_BTD: jax.Array,
            key_BSHK: jax.Array,
            value_BSHV: jax.Array,
            mask: Mask,
            positions: Positions,
        ) -> jax.Array:
            """Attends from query_BTD over projected keys and values; returns out_BTD."""
            if key_BSHK.shape[0] == query_BTD.shape[0]:
                return super().read(query_BTD, key_BSHK, value_BSHV, mask, positions)
            row_R1D = query_BTD.reshape(-1, 1, query_BTD.shape[2])
            positions = Positions(positions.query_BT[:, :1], positions.key_BS)
            out_R1D = super().read(row_R1D, key_BSHK, value_BSHV, mask, positions)
            return out_R1D.reshape(query_BTD.shape)

    start = Decoder.start

    def start_with_copies(
        self: Decoder, memory_BSD: jax.Array, source_valid_BS: jax.Array, beams: int, *rest: Any
    ) -> Cache:
        cache = start(self, memory_BSD, source_valid_BS, beams, *rest)
        each = tuple(
            layer.replace(
                memory_key_BSHK=jnp.repeat(layer.memory_key_BSHK, beams, axis=0),
                memory_value_BSHV=jnp.repeat(layer.memory_value_BSHV, beams, axis=0),
            )
            for layer in cache.layers
        )
        valid_RS = jnp.repeat(source_valid_BS, beams, axis=0)
        return cache.replace(layers=each, source_valid_BS=valid_RS)

    replace(layers, "MultiHeadAttention", Attention)
    replace(Decoder, "start", start_with_copies)


def rows_of_hypotheses(replace: Replace) -> None:
    """A batch whose rows are the hypotheses: each has a past and a memory of its own, and is moved.

    Only the past: the memory of a sentence's rows is the same, and stays.
    """
    start, decode_step = Transformer.start_cache, Transformer.decode_step

    def start_rows(
        self: Transformer, memory_BSD: jax.Array, source_BS: jax.Array, beams: int, room: int
    ) -> Cache:
        rows = (jnp.repeat(array, beams, axis=0) for array in (memory_BSD, source_BS))
        return start(self, *rows, 1, room)

    def step_rows(self: Transformer, token_BM: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        logits_R1W, cache = decode_step(self, token_BM.reshape(-1, 1), cache)
        return logits_R1W.reshape(*token_BM.shape, -1), cache

    def reorder(cache: Cache, beam_BM: jax.Array) -> Cache:
        batch, beams = beam_BM.shape
        row_R = (jnp.arange(batch)[:, None] * beams + beam_BM).reshape(-1)
        return _each_layer(cache, lambda x_RP1HK: x_RP1HK[row_R])

    replace(Transformer, "start_cache", start_rows)
    replace(Transformer, "decode_step", step_rows)
    replace(translation, "reorder", reorder)


def _each_layer(cache: Cache, move: Callable[[jax.Array], jax.Array]) -> Cache:
    moved = tuple(
        layer.replace(key_BPMHK=move(layer.key_BPMHK), value_BPMHV=move(layer.value_BPMHV))
        for layer in cache.layers
    )
    return cache.replace(layers=moved)


def plain_top_k(replace: Replace) -> None:
    """`jax.lax.top_k` over all continuations."""

    def continuations(
        logits_BMW: jax.Array, log_prob_BM: jax.Array, normaliser_BM: jax.Array, count: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        batch, _, vocab = logits_BMW.shape
        total_BMW = extend(log_prob_BM[..., None], logits_BMW, normaliser_BM[..., None])
        total_BC, index_BC = jax.lax.top_k(total_BMW.reshape(batch, -1), count)
        return total_BC, index_BC // vocab, index_BC % vocab

    replace(search, "best_continuations", continuations)
    replace(search, "log_normaliser", lambda logits: jax.nn.logsumexp(logits, axis=-1))


def order_of_input(replace: Replace) -> None:
    """Sentences to be decoded stay in order; a batch is as wide as its longest asks for.

    It has the rows of the widest batch of those that are sorted.
    """

    def batches(
        sources: Sequence[np.ndarray], tokens: int, rows_multiple: int = 1
    ) -> Iterator[pipeline.SourceBatch]:
        rows, _ = pipeline.source_shape(max(map(len, sources)), tokens, rows_multiple)
        for start in range(0, len(sources), rows):
            some = sources[start : start + rows]
            _, width = pipeline.source_shape(max(map(len, some)), tokens, rows_multiple)
            source_BS = np.zeros((rows, width), np.int32)
            for row, sentence in enumerate(some):
                source_BS[row, : len(sentence)] = sentence
            yield pipeline.SourceBatch(source_BS, np.arange(start, start + len(some)))

    replace(pipeline, "source_batches", batches)


FORMS = {
    form.__name__: form
    for form in (
        as_it_is,
        threefry_dropout,
        whole_logits,
        kept_state,
        two_devices,
        fused_projections,
        scanned_layers,
        copied_hypotheses,
        memory_of_each_hypothesis,
        rows_of_hypotheses,
        plain_top_k,
        order_of_input,
    )
}

if __name__ == "__main__":
    sys.exit(main())
