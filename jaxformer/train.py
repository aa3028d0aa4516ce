"""The training step as a pure function: (state, batch) -> (state, metrics)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from jaxformer.loss import CHUNK_TOKENS, LossSums, projected_cross_entropy_sums
from jaxformer.model import Dropout, Transformer, shift_right
from jaxformer.model.embedding import gathered
from jaxformer.model.layout import ALONE
from jaxformer.model.tokens import PAD

Params = Any
Batch = Mapping[str, Any]
"""{"source_BS", "target_BT"}: token ids, each row ending in EOS and filled up with PAD.

NumPy's arrays or JAX's.
"""

Rate = Callable[[jax.Array, "Hyper"], jax.Array]
"""(step counted from 1, hyper) -> learning rate."""


class Hyper(struct.PyTreeNode):
    """What may vary without another compiled program; float32 scalars, traced.

    Attributes:
      dropout_rate: P_drop of section 5.4, in [0, 1).
      label_smoothing: epsilon_ls of section 5.4, in [0, 1).
      learning_rate: what the schedule is multiplied by.
      warmup_steps: of the schedule.
    """

    dropout_rate: jax.Array
    label_smoothing: jax.Array
    learning_rate: jax.Array
    warmup_steps: jax.Array

    @classmethod
    def create(
        cls,
        *,
        dropout_rate: float = 0.1,
        label_smoothing: float = 0.1,
        learning_rate: float = 1.0,
        warmup_steps: float = 4000,
    ) -> "Hyper":
        """Checks the values and makes them float32 scalars.

        Raises: ValueError if a rate is outside [0, 1), or the warm-up below 1 step.
        """
        for name, value in (("dropout_rate", dropout_rate), ("label_smoothing", label_smoothing)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name}={value} is not a rate. Set it within 0 <= {name} < 1.")
        if not learning_rate > 0.0:
            raise ValueError(f"learning_rate={learning_rate} is not positive. Set it above 0.")
        if not warmup_steps >= 1:
            raise ValueError(f"warmup_steps={warmup_steps} is too small. Set it to 1 or more.")
        values = (dropout_rate, label_smoothing, learning_rate, warmup_steps)
        return cls(*(jnp.asarray(value, jnp.float32) for value in values))


class TrainState(struct.PyTreeNode):
    """All that training goes on from.

    Attributes:
      step: updates done, int32.
      params: the model's, float32.
      opt_state: the optimiser's.
      key: the run's one PRNG key; a step's randomness folds its number into it.
      hyper: see Hyper.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    key: jax.Array
    hyper: Hyper


def init_state(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    hyper: Hyper,
    seed: int | np.integer | jax.Array,
) -> TrainState:
    """Returns the state before the first step, a function of the seed (which may be traced)."""
    init_key, key = jax.random.split(jax.random.key(seed))
    token_BT = jnp.ones((1, 2), jnp.int32)
    # One row is not spread over devices.
    params = model.clone(layout=ALONE).init(init_key, token_BT, token_BT)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        key=key,
        hyper=hyper,
    )


def loss_sums(
    model: Transformer,
    params: Params,
    batch: Batch,
    label_smoothing: jax.Array | float = 0.0,
    dropout: Dropout | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> LossSums:
    """Returns the model's loss sums on a batch.

    Args:
      chunk_tokens: as for `projected_cross_entropy_sums`, on each device.
    """
    hidden_BTD = model.apply(
        {"params": params},
        batch["source_BS"],
        shift_right(batch["target_BT"]),
        dropout,
        method="hidden",
    )

    def sums_of(rows: tuple[jax.Array, jax.Array], shared: tuple[jax.Array, jax.Array]) -> LossSums:
        (hidden_BTD, target_BT), (table_WD, label_smoothing) = rows, shared
        return projected_cross_entropy_sums(
            hidden_BTD,
            table_WD,
            target_BT,
            label_smoothing,
            vocab_size=model.vocab_size,
            product_dtype=model.product_dtype,
            chunk_tokens=chunk_tokens,
        )

    # The table's gradient is summed up chunk by chunk: each device does so over its own rows first.
    with jax.named_scope("loss"):
        return model.layout.sum_over_rows(
            sums_of,
            (cast(jax.Array, hidden_BTD), batch["target_BT"]),
            (
                gathered(params["embedding"]["table"], model.layout),
                jnp.asarray(label_smoothing, jnp.float32),
            ),
        )


def make_train_step(
    model: Transformer,
    optimizer: optax.GradientTransformation,
    rate: Rate,
    *,
    accumulate: int = 1,
    axis_name: str | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns train_step(state, batch) -> (state, metrics).

    Args:
      optimizer: gives the direction of the update; the learning rate is applied here.
      rate: (step, hyper) -> learning rate.
      accumulate: the batch is worked off in this many parts, one after another, for less memory.
        Gradients are sums over tokens until the end, and dropout masks belong to rows of the whole
        batch, so that the update is that of the whole batch.
      axis_name: for a step within `jax.pmap` or `jax.shard_map`, where each device has a copy of
        the state and some of the rows: the axis that they are spread over, in order. Sums over
        tokens are added over it, and the update is again that of the whole batch. Not for a model
        with a layout of its own, whose step is compiled by `jax.jit` over a mesh.
      chunk_tokens: of how many tokens a device has the logits at a time (`loss.tokens_at_a_time`).

    The step's metrics: `loss` (smoothed) and `nll`, means a target token in nats; `source_tokens`
    and `target_tokens`; `learning_rate`; `grad_norm`, global, before clipping.
    Raises: ValueError for both a layout and an axis_name; when traced, with a batch whose rows
      `accumulate` does not divide, or within a `shard_map` over axes other than `axis_name`.
    """
    if axis_name is not None and model.layout != ALONE:
        raise ValueError(
            f"axis_name={axis_name!r} is for pmap and shard_map, and the model's layout for jit "
            "over a mesh. Leave one of them out."
        )

    def sums_and_gradients(state: TrainState, batch: Batch, row_B: jax.Array, key: jax.Array):
        dropout = Dropout.create(key, state.hyper.dropout_rate, row_B)

        def total_loss(params: Params) -> tuple[jax.Array, LossSums]:
            smoothing = state.hyper.label_smoothing
            sums = loss_sums(model, params, batch, smoothing, dropout, chunk_tokens)
            return sums.loss, sums

        (_, sums), gradients = jax.value_and_grad(total_loss, has_aux=True)(state.params)
        return sums, gradients

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        rows = batch["source_BS"].shape[0]
        key = jax.random.fold_in(state.key, state.step)
        row_B = jnp.arange(rows, dtype=jnp.uint32)
        if axis_name is not None:
            _check_axes(axis_name)
            row_B += jnp.uint32(rows) * jax.lax.axis_index(axis_name).astype(jnp.uint32)
        if accumulate == 1:
            sums, gradients = sums_and_gradients(state, batch, row_B, key)
        else:
            if rows % accumulate:
                raise ValueError(
                    f"A batch of {rows} rows cannot be worked off in {accumulate} equal parts. "
                    "Set train.accumulate to a divisor of it."
                )

            def split(array: jax.Array) -> jax.Array:
                # Each part takes every accumulate-th row, so that rows stay on their devices.
                parts = array.reshape(rows // accumulate, accumulate, *array.shape[1:])
                return parts.swapaxes(0, 1)

            def add_part(total, part):
                part_of_batch, part_of_rows = part
                sums = sums_and_gradients(state, part_of_batch, part_of_rows, key)
                return jax.tree.map(jnp.add, total, sums), None

            zero_sums = LossSums(*(jnp.zeros(()) for _ in LossSums._fields))
            zero_gradients = jax.tree.map(jnp.zeros_like, state.params)
            (sums, gradients), _ = jax.lax.scan(
                add_part,
                (zero_sums, zero_gradients),
                (jax.tree.map(split, dict(batch)), split(row_B)),
            )
        source_tokens = jnp.sum(batch["source_BS"] != PAD).astype(jnp.float32)
        if axis_name is not None:
            sums, gradients, source_tokens = jax.lax.psum(
                (sums, gradients, source_tokens), axis_name
            )
        tokens = jnp.maximum(sums.tokens, 1.0)
        with jax.named_scope("optimizer"):
            gradients = jax.tree.map(lambda gradient: gradient / tokens, gradients)
            direction, opt_state = optimizer.update(gradients, state.opt_state, state.params)
            learning_rate = rate(state.step + 1, state.hyper)
            params = jax.tree.map(
                lambda param, update: param - learning_rate * update, state.params, direction
            )
        metrics = {
            "loss": sums.loss / tokens,
            "nll": sums.nll / tokens,
            "source_tokens": source_tokens,
            "target_tokens": sums.tokens,
            "learning_rate": learning_rate,
            "grad_norm": optax.tree.norm(gradients),
        }
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        return state, metrics

    return train_step


def _check_axes(axis_name: str) -> None:
    mesh = jax.sharding.get_abstract_mesh()
    others = [axis for axis in mesh.manual_axes if axis != axis_name and mesh.shape[axis] > 1]
    if others:
        raise ValueError(
            f"The step adds over the axis {axis_name!r} alone, and is mapped over "
            f"{', '.join(map(repr, others))} too. Map it over {axis_name!r} only, or compile it by "
            "jax.jit over the mesh (jaxformer.sharding.jit_step)."
        )


def skip_not_finite(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the step that leaves out an update whose loss, gradient or rate is not finite.

    Parameters and optimiser then stay as they were; the step counts, so that the next one has
    another batch. Its metrics have `skipped` too, 1 for such a step and 0 for any other.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        new, metrics = train_step(state, batch)
        parts = (metrics["loss"], metrics["grad_norm"], metrics["learning_rate"])
        is_finite = jnp.isfinite(jnp.stack(parts)).all()

        def choose(after: Any, before: Any) -> Any:
            return jax.tree.map(lambda *leaves: jnp.where(is_finite, *leaves), after, before)

        new = new.replace(
            params=choose(new.params, state.params),
            opt_state=choose(new.opt_state, state.opt_state),
        )
        return new, {**metrics, "skipped": 1.0 - is_finite}

    return step


def make_eval_step(
    model: Transformer, chunk_tokens: int = CHUNK_TOKENS
) -> Callable[[Params, Batch], LossSums]:
    """Returns eval_step(params, batch) -> unsmoothed sums, without dropout.

    Args:
      chunk_tokens: as for `make_train_step`.
    """
    return lambda params, batch: loss_sums(model, params, batch, chunk_tokens=chunk_tokens)


def average(trees: Iterable[Params]) -> Params:
    """Returns the mean of parameter trees (section 6.1 averages the last 5 or 20 checkpoints).

    One tree at a time is taken from `trees`, and only their sum is held.

    Raises: ValueError if there is none.
    """
    total, count = None, 0
    for tree in trees:
        total = tree if total is None else jax.tree.map(jnp.add, total, tree)
        count += 1
    if total is None:
        raise ValueError("There is no checkpoint to average. Train until one has been saved.")
    return jax.tree.map(lambda leaf: leaf / count, total)
