"""Greedy search and sampling: hypotheses that grow by one chosen token a step."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxformer.decode.candidates import best_continuations, extend, log_normaliser
from jaxformer.decode.hypotheses import Hypotheses, Step, check_logits, check_sizes
from jaxformer.model.tokens import BOS, EOS, PAD

# (logits_R1W of the next token, normaliser_R1, step number) -> token_R1, R = B M: here each
# hypothesis is on its own.
Choose: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class _Rollout(struct.PyTreeNode):
    """The loop's state before step `time`."""

    time: jax.Array
    cache: Any
    token_BM: jax.Array
    token_TBM: jax.Array
    log_prob_BM: jax.Array
    length_BM: jax.Array
    done_BM: jax.Array


def greedy(step: Step, cache: Any, limit_B: jax.Array, *, max_length: int) -> Hypotheses:
    """Appends the most probable token, of equals the lowest, until it is EOS or the limit is met.

    Args:
      step: the model; see Step.
      cache: of `step`, before the first token, for one hypothesis a sentence.
      limit_B: as for beam_search.
      max_length: T of the result, at least the highest limit + 1.

    Returns: hypotheses with M = 1; the score is the log probability.
    Raises: ValueError if max_length is below 1, or the logits' shape wrong.
    """
    check_sizes(limit_B, max_length)
    return _roll_out(step, _most_probable, cache, limit_B, 1, max_length)


def sample(
    step: Step,
    cache: Any,
    limit_B: jax.Array,
    key: jax.Array,
    *,
    max_length: int,
    row_B: jax.Array,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Hypotheses:
    """Draws each token from the model's distribution, sharpened and cut as asked.

    The distribution is raised to the power 1 / temperature, cut to its top_k most probable tokens,
    then to the smallest set of most probable tokens that holds top_p of what is left. Tokens as
    probable as the last of that set belong to it.

    What is drawn depends on (key, row_B[b], m, step) and the sentence, so neither on the rest of
    the batch nor on num_samples. Hypothesis m is sample m: they are not sorted.

    Args:
      step: the model; see Step.
      cache: of `step`, before the first token, for num_samples hypotheses a sentence.
      limit_B: as for beam_search.
      key: of the whole run.
      max_length: T of the result, at least the highest limit + 1.
      row_B: integers, the number of each sentence in the whole data set.
      num_samples: M.
      temperature: 0 is greedy search; a Python number, as are the next two.
      top_k: 0 for all tokens.
      top_p: in (0, 1].

    Returns: the score is the log probability under the model itself, neither sharpened nor cut.
    Raises: ValueError if a number is out of its range, or a shape wrong.
    """
    check_sizes(limit_B, max_length, num_samples=num_samples)
    if row_B.shape != limit_B.shape:
        raise ValueError(
            f"row_B has shape {row_B.shape} and limit_B {limit_B.shape}; give one row a sentence."
        )
    if not (math.isfinite(temperature) and temperature >= 0.0):
        raise ValueError(f"temperature={temperature} is no temperature. Set it to 0 or more.")
    if top_k < 0:
        raise ValueError(f"top_k={top_k} is below 0. Set it to 0 for all tokens, or to a count.")
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p={top_p} is not in (0, 1]. Set it to 1 for all tokens.")
    if temperature == 0.0:
        return _roll_out(step, _most_probable, cache, limit_B, num_samples, max_length)

    uniform = _uniform_numbers(key, row_B, num_samples)

    def choose(logits_R1W: jax.Array, normaliser_R1: jax.Array, time: jax.Array) -> jax.Array:
        rows, _, vocab = logits_R1W.shape
        if top_k:
            log_prob_RC, _, token_RC = best_continuations(
                logits_R1W, jnp.zeros_like(normaliser_R1), normaliser_R1, min(top_k, vocab)
            )
        else:
            log_prob_RC = extend(jnp.zeros_like(normaliser_R1), logits_R1W[:, 0], normaliser_R1)
            token_RC = jnp.broadcast_to(jnp.arange(vocab, dtype=jnp.int32), (rows, vocab))
        # Relative to the highest, so that no temperature can overflow.
        log_prob_RC -= jnp.max(log_prob_RC, axis=1, keepdims=True)
        weight_RC = jnp.exp(log_prob_RC / temperature)
        if top_p < 1.0:
            weight_RC = _nucleus(weight_RC, top_p)
        index_R1 = _draw(weight_RC, uniform(time).reshape(rows, 1))
        return jnp.take_along_axis(token_RC, index_R1, axis=1)

    return _roll_out(step, choose, cache, limit_B, num_samples, max_length)


def _most_probable(logits_R1W: jax.Array, normaliser_R1: jax.Array, _: jax.Array) -> jax.Array:
    """Returns the token with the highest logit, token_R1."""
    # By blocks: on a CPU several times faster than argmax.
    return best_continuations(logits_R1W, jnp.zeros_like(normaliser_R1), normaliser_R1, 1)[2]


def _uniform_numbers(
    key: jax.Array, row_B: jax.Array, num_samples: int
) -> Callable[[jax.Array], jax.Array]:
    """Returns step number -> uniform_BM in [0, 1), a function of (key, row, sample, step) each."""

    def of_sample(row: jax.Array, number: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(key, row), number)

    def of_step(sample_key: jax.Array, time: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(sample_key, time), dtype=jnp.float32)

    number_M = jnp.arange(num_samples)
    key_BM = jax.vmap(jax.vmap(of_sample, in_axes=(None, 0)), in_axes=(0, None))(row_B, number_M)
    of_step_BM = jax.vmap(jax.vmap(of_step, in_axes=(0, None)), in_axes=(0, None))
    return lambda time: of_step_BM(key_BM, time)


def _nucleus(weight_RC: jax.Array, top_p: float) -> jax.Array:
    """Returns the weights with 0 for all but the smallest set of the highest that holds top_p.

    The lowest weight of that set is found by bisection over the bits of a float32, whose order, for
    numbers that are not negative, is that of integers: exact, and ten times faster than sorting.
    """
    bits_RC = jax.lax.bitcast_convert_type(weight_RC, jnp.int32)
    wanted_R1 = top_p * jnp.sum(weight_RC, axis=1, keepdims=True)

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        enough_R1, too_high_R1 = bounds
        middle_R1 = (enough_R1 + too_high_R1) // 2
        held_R1 = jnp.sum(jnp.where(bits_RC >= middle_R1, weight_RC, 0.0), axis=1, keepdims=True)
        is_enough_R1 = held_R1 >= wanted_R1
        return (
            jnp.where(is_enough_R1, middle_R1, enough_R1),
            jnp.where(is_enough_R1, too_high_R1, middle_R1),
        )

    above_one = int(np.float32(1.0).view(np.int32)) + 1
    lowest_R1 = jnp.zeros_like(bits_RC[:, :1])
    bounds = (lowest_R1, jnp.full_like(lowest_R1, above_one))
    threshold_R1, _ = jax.lax.fori_loop(0, above_one.bit_length(), halve, bounds)
    return jnp.where(bits_RC >= threshold_R1, weight_RC, 0.0)


def _draw(weight_RC: jax.Array, uniform_R1: jax.Array) -> jax.Array:
    """Returns index_R1, drawn in proportion to the weights, never one whose weight is 0.

    One random number each through the inverse of the distribution function; a random number for
    every token, as jax.random.categorical draws them, would cost more than a small model's step.
    """
    below_RC = jnp.where(weight_RC > 0.0, jnp.cumsum(weight_RC, axis=1), 0.0)
    # The maximum, because a parallel sum need not end with its highest value to the last bit.
    total_R1 = jnp.max(below_RC, axis=1, keepdims=True)
    last = weight_RC.shape[1] - 1
    index_C = jnp.arange(last + 1, dtype=jnp.int32)
    index_RC = jnp.where(below_RC > uniform_R1 * total_R1, index_C, last)
    return jnp.min(index_RC, axis=1, keepdims=True)


def _roll_out(
    step: Step, choose: Choose, cache: Any, limit_B: jax.Array, beams: int, max_length: int
) -> Hypotheses:
    """Returns the hypotheses that grow by the tokens chosen, each until EOS or its limit."""
    shape_BM = (limit_B.shape[0], beams)
    limit_B = jnp.minimum(limit_B, max_length - 1)

    def advance(state: _Rollout) -> _Rollout:
        logits_BMW, cache = step(state.token_BM, state.cache)
        check_logits(logits_BMW, state.token_BM)
        logits_R1W = logits_BMW.astype(jnp.float32).reshape(-1, 1, logits_BMW.shape[2])
        normaliser_R1 = log_normaliser(logits_R1W)
        token_BM = choose(logits_R1W, normaliser_R1, state.time).reshape(shape_BM)
        token_BM = jnp.where(state.time >= limit_B[:, None], EOS, token_BM)

        logit_R1 = jnp.take_along_axis(logits_R1W[:, 0], token_BM.reshape(-1, 1), axis=1)
        log_prob_BM = extend(
            state.log_prob_BM, logit_R1.reshape(shape_BM), normaliser_R1.reshape(shape_BM)
        )
        log_prob_BM = jnp.where(state.done_BM, state.log_prob_BM, log_prob_BM)
        token_BM = jnp.where(state.done_BM, PAD, token_BM)
        return _Rollout(
            time=state.time + 1,
            cache=cache,
            token_BM=token_BM,
            token_TBM=state.token_TBM.at[state.time].set(token_BM),
            log_prob_BM=log_prob_BM,
            length_BM=jnp.where(state.done_BM, state.length_BM, state.time + 1),
            done_BM=state.done_BM | (token_BM == EOS),
        )

    done_BM = jnp.broadcast_to(limit_B[:, None] < 0, shape_BM)
    start = _Rollout(
        time=jnp.zeros((), jnp.int32),
        cache=cache,
        token_BM=jnp.full(shape_BM, BOS, jnp.int32),
        token_TBM=jnp.full((max_length, *shape_BM), PAD, jnp.int32),
        log_prob_BM=jnp.where(done_BM, -jnp.inf, jnp.zeros(shape_BM, jnp.float32)),
        length_BM=jnp.zeros(shape_BM, jnp.int32),
        done_BM=done_BM,
    )
    state = jax.lax.while_loop(lambda state: jnp.any(~state.done_BM), advance, start)
    exists_BM = state.log_prob_BM > -jnp.inf
    return Hypotheses(
        token_BMT=jnp.where(exists_BM[..., None], jnp.moveaxis(state.token_TBM, 0, 2), PAD),
        score_BM=state.log_prob_BM,
        log_prob_BM=state.log_prob_BM,
        length_BM=jnp.where(exists_BM, state.length_BM, 0),
    )
