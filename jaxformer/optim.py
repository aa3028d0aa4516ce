"""The learning rate (Eq. 3) and Adam with the paper's constants (section 5.3), as optax."""

import math

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike


def noam_rate(
    step: ArrayLike, *, d_model: int, warmup_steps: jax.Array | float, num_steps: int = 0
) -> jax.Array:
    """d_model^-0.5 min(step^-0.5, step warmup_steps^-1.5) (Eq. 3).

    Args:
      step: counted from 1, as in the paper.
      warmup_steps: may be traced.
      num_steps: of the whole run; of no account here, since Eq. 3 does not know when a run ends.

    Returns: the learning rate, float32; base peaks at 6.99e-4 with 4,000 warm-up steps.
    """
    del num_steps
    step = jnp.asarray(step, jnp.float32)
    warmup_steps = jnp.asarray(warmup_steps, jnp.float32)
    return d_model**-0.5 * jnp.minimum(step**-0.5, step * warmup_steps**-1.5)


def linear_rate(
    step: ArrayLike, *, d_model: int, warmup_steps: jax.Array | float, num_steps: int
) -> jax.Array:
    """Linear warm-up to Eq. 3's peak, then linear decay to 0 just after step `num_steps`.

    Args and Returns: as `noam_rate`, but `num_steps` counts.
    Departs: where the number of steps is known, ending at 0 is worth more than Eq. 3's long tail.
    """
    step = jnp.asarray(step, jnp.float32)
    warmup_steps = jnp.asarray(warmup_steps, jnp.float32)
    up = step / warmup_steps
    down = (num_steps + 1 - step) / jnp.maximum(num_steps + 1 - warmup_steps, 1.0)
    return (d_model * warmup_steps) ** -0.5 * jnp.maximum(jnp.minimum(up, down), 0.0)


def cooldown_rate(
    step: ArrayLike, *, d_model: int, warmup_steps: jax.Array | float, num_steps: int
) -> jax.Array:
    """Eq. 3 for four fifths of the run, then linear decay to 0 just after step `num_steps`.

    Args and Returns: as `noam_rate`, but `num_steps` counts.
    Departs: its end stands for the average of checkpoints that a run by Eq. 3 needs. In the four
    fifths the rates are those of `noam_rate`, so that a run by that may be gone on with by this
    from any step in them. Haegele et al. ("Scaling Laws and Compute-Optimal Training Beyond Fixed
    Training Durations", 2024) end runs of a constant rate so.
    """
    step = jnp.asarray(step, jnp.float32)
    begin = 0.8 * num_steps
    rate = noam_rate(jnp.minimum(step, begin), d_model=d_model, warmup_steps=warmup_steps)
    return rate * jnp.clip((num_steps + 1 - step) / (num_steps + 1 - begin), 0.0, 1.0)


def noam_schedule(d_model: int, warmup_steps: int, factor: float = 1.0) -> optax.Schedule:
    """Eq. 3 times `factor`, as an optax schedule.

    optax counts steps from 0 and the paper from 1, so one is added.

    Returns: step -> learning rate, a float32 scalar.
    Raises: ValueError if warmup_steps < 1.
    """
    if warmup_steps < 1:
        raise ValueError(
            f"warmup_steps={warmup_steps} leaves Eq. 3 undefined. Set it to 1 or more."
        )
    return lambda step: factor * noam_rate(step + 1, d_model=d_model, warmup_steps=warmup_steps)


def scale_by_paper_adam(
    beta1: float = 0.9,
    beta2: float = 0.98,
    epsilon: float = 1e-9,
    clip_norm: float = 0.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Adam's direction with the paper's constants, before the learning rate.

    Args:
      clip_norm: gradients of a larger global norm are scaled down to it first; 0 for never, as in
        the paper.
      weight_decay: so much of every parameter, norms and biases too, is added to the direction; 0
        for none, as in the paper. `update` then needs the parameters. That is AdamW (Loshchilov and
        Hutter, "Decoupled Weight Decay Regularization", 2019), with the whole learning rate as
        optax's and PyTorch's have it; in theirs the schedule alone multiplies the decay.

    Raises: ValueError if clip_norm or weight_decay is negative or not finite.
    """
    for name, value in (("clip_norm", clip_norm), ("weight_decay", weight_decay)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value} is out of range. Set it to 0 or a positive number.")
    parts = [optax.scale_by_adam(b1=beta1, b2=beta2, eps=epsilon)]
    if clip_norm > 0:
        parts.insert(0, optax.clip_by_global_norm(clip_norm))
    if weight_decay > 0:
        parts.append(optax.add_decayed_weights(weight_decay))
    # One part alone has its state as it is, and so have the checkpoints.
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def paper_adam(
    d_model: int = 512, warmup_steps: int = 4000, factor: float = 1.0
) -> optax.GradientTransformation:
    """The paper's whole optimiser for use in other code: Adam and Eq. 3."""
    return optax.chain(
        scale_by_paper_adam(),
        optax.scale_by_learning_rate(noam_schedule(d_model, warmup_steps, factor)),
    )
