"""The loop around the pure step: a generator, and a driver that logs, evaluates and saves."""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax

from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.record import Metrics
from jaxformer.run.finite import NotFinite, TrainStep, are_finite, describe, is_finite
from jaxformer.run.progress import Progress
from jaxformer.run.tally import Tally
from jaxformer.train import Batch, Params, TrainState

Validate = Callable[[Params], Mapping[str, float]]

# Metrics are fetched when so many later steps have been handed to the device, which is then never
# waiting for the host.
_STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Cadence:
    """When what happens, in steps; 0 for never.

    Attributes:
      num_steps: of the whole run.
      log_every: a line of metrics.
      eval_every: an evaluation on the validation split, and a line of metrics.
      checkpoint_every: a checkpoint; there is one at the end in any case.
    """

    num_steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int


def training_steps(
    train_step: TrainStep, state: TrainState, batches: Iterable[Batch]
) -> Iterator[tuple[TrainState, dict[str, jax.Array]]]:
    """Yields (state, metrics) after each batch; the caller decides when to log, save and stop.

    With a step that donates its state, what was yielded last is gone when the next is asked for.
    """
    for batch in batches:
        state, metrics = train_step(state, batch)
        yield state, metrics


def train(
    train_step: TrainStep,
    state: TrainState,
    batches: Iterable[Batch],
    cadence: Cadence,
    *,
    checkpoints: Checkpoints,
    metrics_file: Metrics,
    progress: Progress,
    validate: Validate | None = None,
    tally: Tally | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    name_batch: Callable[[int], str] = "batch {}".format,
    meta: Mapping[str, Any] | None = None,
) -> TrainState:
    """Trains up to `cadence.num_steps`, or to a stop, and returns the last state, which is saved.

    Args:
      train_step: compiled; it may donate its state.
      state: to start or go on from.
      batches: from the step of `state` on.
      validate: parameters -> fields for the line of metrics.
      tally: of the steps since the last line, from the checkpoint that is gone on from.
      should_stop: looked at after every step.
      name_batch: step, counted from 1 -> its batch in words.
      meta: saved with every checkpoint, beside the tally.

    A line of metrics is on file before the checkpoint of its step is, so that none is missing after
    a kill or a power cut. The line at the last step may be of an incomplete interval; a run that is
    made longer writes it anew (see `resume_point`). A stop between two lines writes none.

    Raises: NotFinite if a step's loss, gradient norm or rate is not finite and the step has not
      left its update out. Then no state after that step has been saved, nor a line of metrics.
    """
    since_line = tally or Tally()
    start, last = int(state.step), cadence.num_steps
    waiting: deque[tuple[int, dict[str, jax.Array], int]] = deque()
    clock = time.perf_counter()

    def settle(steps_ahead: int) -> None:
        nonlocal clock
        while len(waiting) > steps_ahead:
            step, device_metrics, slots = waiting.popleft()
            metrics = jax.device_get(device_metrics)
            if not are_finite(metrics):
                told = describe(step, name_batch(step), metrics)
                if not metrics.get("skipped"):
                    raise NotFinite(told)
                progress.say(f"{told} Its update was left out.")
            before, clock = clock, time.perf_counter()
            since_line.add(metrics, slots, clock - before)
            progress.step(step, metrics, slots, clock - before)
            if _is_due(step, cadence.log_every) and not _is_stop(step, cadence, validate):
                write(step, {})

    def write(step: int, fields: Mapping[str, float]) -> None:
        nonlocal since_line
        row = {**since_line.row(step), **fields}
        metrics_file.write(row)
        progress.row(row)
        since_line = Tally()

    slots_of: deque[int] = deque()
    steps = training_steps(train_step, state, _counting_slots(batches, slots_of))
    for step, (state, metrics) in zip(range(start + 1, last + 1), steps, strict=False):
        waiting.append((step, metrics, slots_of.popleft()))
        settle(_STEPS_AHEAD)
        is_stop, is_last = _is_stop(step, cadence, validate), step == last or should_stop()
        if not is_stop and not is_last:
            continue
        settle(0)
        kept = since_line
        if is_stop:
            should_validate = validate is not None and _is_due(step, cadence.eval_every)
            fields = validate(state.params) if validate is not None and should_validate else {}
            is_whole = should_validate or _is_due(step, cadence.log_every)
            if is_whole or (step == last and cadence.log_every > 0):
                write(step, fields)
            if is_whole:
                kept = Tally()
        if is_last or _is_due(step, cadence.checkpoint_every):
            if not is_finite(state):
                raise NotFinite(f"What step {step:,} ({name_batch(step)}) has made is not finite.")
            metrics_file.sync()
            checkpoints.save(state, meta={**(meta or {}), "tally": kept.to_json()})
        if is_last:
            break
        clock = time.perf_counter()
    return state


def resume_point(meta: Mapping[str, Any], step: int) -> tuple[Tally, int]:
    """Returns the tally that a checkpoint of `step` was saved with, and the last step to keep.

    Lines of metrics after that step are dropped. Where a checkpoint stands between two lines, a
    line of its own step can only be the last one of a run that is now made longer.
    """
    tally = Tally.from_json(meta["tally"])
    return tally, step if tally.is_empty else step - 1


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _is_stop(step: int, cadence: Cadence, validate: Validate | None) -> bool:
    """Returns whether the host needs the state, or the end is reached."""
    return (
        step == cadence.num_steps
        or _is_due(step, cadence.checkpoint_every)
        or (validate is not None and _is_due(step, cadence.eval_every))
    )


def _counting_slots(batches: Iterable[Batch], slots_of: deque[int]) -> Iterator[Batch]:
    """Passes batches on and notes how many tokens each has room for."""
    for batch in batches:
        slots_of.append(batch["source_BS"].size + batch["target_BT"].size)
        yield batch
