"""Beam search (section 6.1)."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxformer.decode.candidates import best_continuations, extend, log_normaliser
from jaxformer.decode.hypotheses import Grow, Hypotheses, Reorder, Step, check_logits, check_sizes
from jaxformer.decode.penalty import LengthPenalty, gnmt_penalty, penalty_table
from jaxformer.model.tokens import BOS, EOS, PAD


class _Ended(struct.PyTreeNode):
    """The best M hypotheses that have ended, best first; score -inf where there is none yet.

    Their tokens are found at the end of the search, from the live hypothesis `beam_BM` that stood
    before EOS, by following the parents of the steps before.
    """

    score_BM: jax.Array
    log_prob_BM: jax.Array
    length_BM: jax.Array
    beam_BM: jax.Array


class _Search(struct.PyTreeNode):
    """The loop's state before step `time`, when every live hypothesis has `time` tokens."""

    time: jax.Array
    cache: Any
    token_BM: jax.Array
    log_prob_BM: jax.Array
    # What each step t appended to hypothesis m, and to which hypothesis of the step before.
    token_TBM: jax.Array
    parent_TBM: jax.Array
    ended: _Ended
    done_B: jax.Array


def beam_search(
    step: Step,
    reorder: Reorder,
    cache: Any,
    limit_B: jax.Array,
    *,
    num_beams: int = 4,
    max_length: int,
    alpha: float = 0.6,
    length_penalty: LengthPenalty = gnmt_penalty,
    early_stop: bool = True,
    num_best: int | None = None,
    grow: Grow | None = None,
    rooms: Sequence[int] = (),
) -> Hypotheses:
    """Searches for the most probable outputs with a beam of M live hypotheses (section 6.1).

    The candidates of a step are all continuations of a sentence's M live hypotheses, ranked by log
    probability. Among the first M, those with EOS end; the first M without EOS live on. Ended
    hypotheses are ranked by log_prob / length_penalty(length, alpha), of equals the one that ended
    first. A sentence's search ends when M hypotheses have ended, or at its limit, where all that
    live get EOS. So one beam is greedy search exactly.

    Args:
      step: the model; see Step.
      reorder: moves the hypotheses of a cache; see Reorder.
      cache: of `step`, before the first token, for M hypotheses a sentence.
      limit_B: most output tokens of each sentence, EOS not counted; beyond max_length - 1 it is
        cut. 0 gives EOS alone, a negative limit no hypothesis at all.
      num_beams: M.
      max_length: T of the result, at least the highest limit + 1.
      alpha: exponent of the length penalty; any sign, may be traced.
      length_penalty: see LengthPenalty; the paper's by default.
      early_stop: also end a sentence when no live hypothesis can still be one of its num_best best;
        this never changes the result. It saves steps if num_best is below num_beams.
      num_best: how many hypotheses to return, M by default.
      grow: gives a cache more room; see Grow.
      rooms: positions that `cache` has room for, and that it is to have room for next whenever all
        are taken, up to max_length. Outputs that end early never pay for the places of long ones.
        Without them the cache has room for max_length positions.

    Raises: ValueError if a size is below 1, num_best above num_beams, the logits' or the penalty's
      shape wrong, or the rooms do not rise to max_length.
    """
    num_best = num_beams if num_best is None else num_best
    check_sizes(limit_B, max_length, num_beams=num_beams, num_best=num_best)
    if num_best > num_beams:
        raise ValueError(
            f"num_best={num_best} hypotheses cannot come of num_beams={num_beams}. Raise num_beams."
        )
    rooms = rooms if grow and rooms else (max_length,)
    if rooms[-1] != max_length or any(more <= few for few, more in itertools.pairwise(rooms)):
        raise ValueError(
            f"rooms={tuple(rooms)} do not rise to max_length={max_length}. Give lengths that do."
        )
    limit_B = jnp.minimum(limit_B, max_length - 1)
    # A table, so that equal lengths have equal penalties to the last bit wherever they are used.
    penalty_T = penalty_table(length_penalty, max_length, alpha)

    def advance(search: _Search) -> _Search:
        logits_BMW, cache = step(search.token_BM, search.cache)
        check_logits(logits_BMW, search.token_BM)
        log_prob_BC, beam_BC, token_BC = _candidates(
            logits_BMW.astype(jnp.float32), search.log_prob_BM, search.time >= limit_B
        )
        is_eos_BC = token_BC == EOS
        log_prob_BM = jnp.where(is_eos_BC, log_prob_BC, -jnp.inf)[:, :num_beams]
        newly_ended = _Ended(
            score_BM=log_prob_BM / penalty_T[search.time],
            log_prob_BM=log_prob_BM,
            length_BM=jnp.full_like(search.ended.length_BM, search.time + 1),
            beam_BM=beam_BC[:, :num_beams],
        )
        ended = _merge(search.ended, newly_ended, search.done_B)

        log_prob_BM, rank_BM = jax.lax.top_k(jnp.where(is_eos_BC, -jnp.inf, log_prob_BC), num_beams)
        parent_BM = jnp.take_along_axis(beam_BC, rank_BM, axis=1)
        token_BM = jnp.take_along_axis(token_BC, rank_BM, axis=1)

        done_B = search.done_B | (search.time >= limit_B) | (ended.score_BM[:, -1] > -jnp.inf)
        if early_stop:
            bound_B = _best_score_ahead(log_prob_BM[:, 0], search.time, limit_B, penalty_T)
            done_B |= bound_B <= ended.score_BM[:, num_best - 1]
        return _Search(
            time=search.time + 1,
            cache=reorder(cache, parent_BM),
            token_BM=token_BM,
            log_prob_BM=log_prob_BM,
            token_TBM=search.token_TBM.at[search.time].set(token_BM),
            parent_TBM=search.parent_TBM.at[search.time].set(parent_BM),
            ended=ended,
            done_B=done_B,
        )

    shape_BM = (limit_B.shape[0], num_beams)
    history_TBM = jnp.zeros((max_length, *shape_BM), jnp.int32)
    none_BM = jnp.full(shape_BM, -jnp.inf, jnp.float32)
    start = _Search(
        time=jnp.zeros((), jnp.int32),
        cache=cache,
        token_BM=jnp.full(shape_BM, BOS, jnp.int32),
        # All M are the empty hypothesis at first, so that only one of them may be alive.
        log_prob_BM=none_BM.at[:, 0].set(0.0),
        token_TBM=history_TBM,
        parent_TBM=history_TBM,
        ended=_Ended(none_BM, none_BM, history_TBM[0], history_TBM[0]),
        done_B=limit_B < 0,
    )
    search = _until(start, rooms[0], advance)
    if grow:
        for room in rooms[1:]:
            search = _until(search.replace(cache=grow(search.cache, room)), room, advance)
    best = jax.tree.map(lambda value_BM: value_BM[:, :num_best], search.ended)
    return Hypotheses(
        token_BMT=_read_back(search.token_TBM, search.parent_TBM, best.beam_BM, best.length_BM),
        score_BM=best.score_BM,
        log_prob_BM=best.log_prob_BM,
        length_BM=best.length_BM,
    )


def _until(search: _Search, room: int, advance: Callable[[_Search], _Search]) -> _Search:
    """Returns the search when all is done, or the cache's room for so many positions is taken."""
    return jax.lax.while_loop(
        lambda search: jnp.any(~search.done_B) & (search.time < room), advance, search
    )


def _candidates(
    logits_BMW: jax.Array, log_prob_BM: jax.Array, at_limit_B: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (log_prob_BC, beam_BC, token_BC), C = 2 M: enough for M without EOS.

    At the limit they are each hypothesis with EOS in the first M places, so that all may end, and
    nothing in the others.
    """
    beams = logits_BMW.shape[1]
    normaliser_BM = log_normaliser(logits_BMW)
    log_prob_BC, beam_BC, token_BC = best_continuations(
        logits_BMW, log_prob_BM, normaliser_BM, 2 * beams
    )
    with_eos_BM = extend(log_prob_BM, logits_BMW[:, :, EOS], normaliser_BM)
    last_BC = jnp.pad(with_eos_BM, ((0, 0), (0, beams)), constant_values=-jnp.inf)
    at_limit_B1 = at_limit_B[:, None]
    return (
        jnp.where(at_limit_B1, last_BC, log_prob_BC),
        jnp.where(at_limit_B1, jnp.arange(2 * beams, dtype=jnp.int32) % beams, beam_BC),
        jnp.where(at_limit_B1, EOS, token_BC),
    )


def _merge(ended: _Ended, newly_ended: _Ended, done_B: jax.Array) -> _Ended:
    """Returns the best M of both, the older first among equals; a sentence that is done keeps its.

    Without the latter a sentence's result would depend on how long the others of its batch take.
    As -inf is no better than -inf, a place without a hypothesis keeps its length of 0.
    """
    beams = ended.score_BM.shape[1]
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), ended, newly_ended)
    _, rank_BM = jax.lax.top_k(both.score_BM, beams)
    return jax.tree.map(
        lambda old_BM, both_BC: jnp.where(
            done_B[:, None], old_BM, jnp.take_along_axis(both_BC, rank_BM, axis=1)
        ),
        ended,
        both,
    )


def _best_score_ahead(
    log_prob_B: jax.Array, time: jax.Array, limit_B: jax.Array, penalty_T: jax.Array
) -> jax.Array:
    """Returns a bound on the score of what a live hypothesis with log_prob_B may still become.

    Further tokens can only lower its log probability, which is not positive, so the bound is the
    score that it would have at the length of the largest penalty among the possible ones.
    """
    length_T = jnp.arange(1, penalty_T.shape[0] + 1)
    possible_BT = (length_T > time + 1) & (length_T <= limit_B[:, None] + 1)
    return log_prob_B / jnp.max(jnp.where(possible_BT, penalty_T, 0.0), axis=1)


def _read_back(
    token_TBM: jax.Array, parent_TBM: jax.Array, beam_BM: jax.Array, length_BM: jax.Array
) -> jax.Array:
    """Returns token_BMT of the hypotheses that ended at `length_BM` from the live `beam_BM`."""

    def back(beam_BM: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]):
        time, token_BM, parent_BM = step
        before_eos_BM = time < length_BM - 1
        own_BM = jnp.take_along_axis(token_BM, beam_BM, axis=1)
        own_BM = jnp.where(before_eos_BM, own_BM, jnp.where(time == length_BM - 1, EOS, PAD))
        parent_BM = jnp.take_along_axis(parent_BM, beam_BM, axis=1)
        return jnp.where(before_eos_BM, parent_BM, beam_BM), own_BM

    time_T = jnp.arange(token_TBM.shape[0])
    _, token_TBM = jax.lax.scan(back, beam_BM, (time_T, token_TBM, parent_TBM), reverse=True)
    return jnp.moveaxis(token_TBM, 0, 2)
