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
from jaxformer.run.patience import Patience
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

    def logs(self, step: int) -> bool:
        """Returns whether a line of metrics is due, be there an evaluation or not."""
        return _is_due(step, self.log_every)

    def validates(self, step: int) -> bool:
        """Returns whether an evaluation is due."""
        return _is_due(step, self.eval_every)

    def saves(self, step: int) -> bool:
        """Returns whether a checkpoint is due."""
        return step == self.num_steps or self.keeps(step)

    def keeps(self, step: int) -> bool:
        """Returns whether its checkpoint is one of those that a longer run has too."""
        return _is_due(step, self.checkpoint_every)

    def stops(self, step: int) -> bool:
        """Returns whether the host needs the state, or the end is reached."""
        return self.saves(step) or self.validates(step)


class Journal:
    """What one run puts on file: its lines of metrics and its checkpoints.

    A line of metrics is on file before the checkpoint of its step is, so that none is missing after
    a kill or a power cut. The line at the last step may be of an incomplete interval; a run that is
    made longer writes it anew (see `resume_point`).

    Attributes:
      tally: of the steps since the last line.
    """

    def __init__(
        self,
        cadence: Cadence,
        *,
        checkpoints: Checkpoints,
        metrics_file: Metrics | None,
        tally: Tally | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins, or goes on.

        Args:
          metrics_file: None in a process that writes no records.
          tally: of the steps since the last line, from the checkpoint that is gone on from.
          meta: saved with every checkpoint, beside the tally.
        """
        self.tally = tally or Tally()
        self._cadence, self._meta = cadence, meta or {}
        self._checkpoints, self._metrics_file = checkpoints, metrics_file

    def add(
        self, step: int, metrics: Mapping[str, Any], slots: int, seconds: float
    ) -> dict[str, Any] | None:
        """Takes note of a step; returns the line, if one is due that `stop` does not write."""
        self.tally.add(metrics, slots, seconds)
        if self._cadence.logs(step) and not self._cadence.stops(step):
            return self.write(step, {})
        return None

    def stop(
        self,
        step: int,
        fields: Mapping[str, float] | None,
        state: TrainState | None,
        patience: Patience,
    ) -> dict[str, Any] | None:
        """Writes the line and the checkpoint that are due where the loop stops.

        Args:
          fields: of the evaluation, None if there was none.
          state: to be saved, None if no checkpoint is due.
          patience: saved with it, beside tally and meta; it is told of a saved evaluation.

        Returns: the line, None if none is due: where a signal stops the loop there is none.
        """
        kept, row = self.tally, None
        if self._cadence.stops(step):
            is_whole = fields is not None or self._cadence.logs(step)
            if is_whole or (step == self._cadence.num_steps and self._cadence.log_every > 0):
                row = self.write(step, fields or {})
            if is_whole:
                kept = Tally()
        if state is not None:
            if self._metrics_file is not None:
                self._metrics_file.sync()
            if fields is not None and self._cadence.saves(step):
                patience.see_saved(step, fields["valid_nll"])
            meta = {**self._meta, "patience": patience.to_json(), "tally": kept.to_json()}
            self._checkpoints.save(
                state, meta=meta, is_due=self._cadence.keeps(step), best=patience.saved_step
            )
        return row

    def write(self, step: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Writes a line of the steps since the last one, with `fields` in addition."""
        row = {**self.tally.row(step), **fields}
        if self._metrics_file is not None:
            self._metrics_file.write(row)
        self.tally = Tally()
        return row


def training_steps(
    train_step: TrainStep, state: TrainState, batches: Iterable[Batch]
) -> Iterator[tuple[TrainState, dict[str, jax.Array]]]:
    """Yields (state, metrics) after each batch; the caller decides when to log, save and stop.

    With a step that donates its state, what was yielded last is gone when the next is asked for.
    """
    for batch in batches:
        state, metrics = train_step(state, batch)
        yield state, metrics


def drive(
    train_step: TrainStep,
    state: TrainState,
    batches: Iterable[Batch],
    steps: range,
    *,
    stops: Callable[[int], bool],
    on_metrics: Callable[[int, Mapping[str, Any], int, float], None],
    on_stop: Callable[[int, TrainState, bool], bool],
    should_end: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Takes the steps and returns the last state; the host looks on from a few steps behind.

    Args:
      steps: numbers of those to take.
      stops: whether the host needs the state after a step.
      on_metrics: called once a step, in order, with its number, metrics, slots and seconds.
      on_stop: called with number and state of a step that stops, and whether the loop ends there,
        when all metrics are known; returns whether it shall end there.
      should_end: looked at after every step.
    """
    waiting: deque[tuple[int, dict[str, jax.Array], int]] = deque()
    clock = time.perf_counter()

    def settle(steps_ahead: int) -> None:
        nonlocal clock
        while len(waiting) > steps_ahead:
            step, device_metrics, slots = waiting.popleft()
            metrics = jax.device_get(device_metrics)
            before, clock = clock, time.perf_counter()
            on_metrics(step, metrics, slots, clock - before)

    slots_of: deque[int] = deque()
    stream = training_steps(train_step, state, _counting_slots(batches, slots_of))
    for step, (state, metrics) in zip(steps, stream, strict=False):
        waiting.append((step, metrics, slots_of.popleft()))
        settle(_STEPS_AHEAD)
        is_end = step == steps[-1] or should_end()
        if stops(step) or is_end:
            settle(0)
            is_end = on_stop(step, state, is_end)
            clock = time.perf_counter()
        if is_end:
            break
    return state


def train(
    train_step: TrainStep,
    state: TrainState,
    batches: Iterable[Batch],
    cadence: Cadence,
    *,
    checkpoints: Checkpoints,
    metrics_file: Metrics | None,
    progress: Progress,
    validate: Validate | None = None,
    tally: Tally | None = None,
    patience: Patience | None = None,
    should_end: Callable[[], bool] = lambda: False,
    name_batch: Callable[[int], str] = "batch {}".format,
    meta: Mapping[str, Any] | None = None,
) -> TrainState:
    """Trains up to `cadence.num_steps`, or to an end before, and returns the last state, saved.

    Args:
      train_step: compiled; it may donate its state.
      state: to start or go on from.
      batches: from the step of `state` on.
      validate: parameters -> fields for the line of metrics; without it no evaluation is due.
      patience: which `valid_nll` of these may spend; it is saved with every checkpoint.
      should_end: looked at after every step.
      name_batch: step, counted from 1 -> its batch in words.
      metrics_file, tally, meta: as for `Journal`.

    Raises: NotFinite if a step's loss, gradient norm or rate is not finite and the step has not
      left its update out. Then no state after that step has been saved, nor a line of metrics.
    """
    patience = patience or Patience(0)
    if validate is None:
        cadence = dataclasses.replace(cadence, eval_every=0)
    journal = Journal(
        cadence, checkpoints=checkpoints, metrics_file=metrics_file, tally=tally, meta=meta
    )

    def show(row: Mapping[str, Any] | None) -> None:
        if row is not None:
            progress.row(row)

    def on_metrics(step: int, metrics: Mapping[str, Any], slots: int, seconds: float) -> None:
        if not are_finite(metrics):
            told = describe(step, name_batch(step), metrics)
            if not metrics.get("skipped"):
                raise NotFinite(told)
            progress.say(f"{told} Its update was left out.")
        progress.step(step, metrics, slots, seconds)
        show(journal.add(step, metrics, slots, seconds))

    def on_stop(step: int, state: TrainState, is_end: bool) -> bool:
        fields = validate(state.params) if validate and cadence.validates(step) else None
        if fields is not None:
            patience.see(fields["valid_nll"])
            is_end = is_end or patience.is_spent
        is_saved = is_end or cadence.saves(step)
        if is_saved and not is_finite(state):
            raise NotFinite(f"What step {step:,} ({name_batch(step)}) has made is not finite.")
        show(journal.stop(step, fields, state if is_saved else None, patience))
        return is_end

    return drive(
        train_step,
        state,
        batches,
        range(int(state.step) + 1, cadence.num_steps + 1),
        stops=cadence.stops,
        on_metrics=on_metrics,
        on_stop=on_stop,
        should_end=should_end,
    )


def resume_point(meta: Mapping[str, Any], step: int) -> tuple[Tally, int]:
    """Returns the tally that a checkpoint of `step` was saved with, and the last step to keep.

    Lines of metrics after that step are dropped. Where a checkpoint stands between two lines, a
    line of its own step can only be the last one of a run that is now made longer.
    """
    tally = Tally.from_json(meta["tally"])
    return tally, step if tally.is_empty else step - 1


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _counting_slots(batches: Iterable[Batch], slots_of: deque[int]) -> Iterator[Batch]:
    """Passes batches on and notes how many tokens each has room for."""
    for batch in batches:
        slots_of.append(batch["source_BS"].size + batch["target_BT"].size)
        yield batch
