"""The loop around a population's step: members train together, each with records of its own."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxformer.population import num_rows, stack, unstack
from jaxformer.run.finite import TrainStep, are_finite, describe, is_finite
from jaxformer.run.patience import Patience
from jaxformer.run.progress import Progress
from jaxformer.run.training import Cadence, Journal, drive
from jaxformer.train import Batch, Params, TrainState

Stream = Callable[[int, int], Iterator[Batch]]
"""(seed, steps done) -> the batches of the steps that follow, as a run of that seed sees them."""

ValidateAll = Callable[[Params], Sequence[Mapping[str, float]]]
"""Stacked parameters -> fields for the line of metrics of each row."""


@dataclasses.dataclass
class Member:
    """One training of a population; it changes as it is trained.

    Attributes:
      name: what it is called in what is said.
      seed: of the order of its data.
      step: updates done.
      state: after `step`.
      journal: its own, with the population's cadence.
      patience: counts evaluations for a later run alone; it ends nothing here.
      diverged_at: the first step whose loss or gradient was not finite, 0 if there is none. Such a
        member has a last line of metrics that says so, and keeps the checkpoints from before.
    """

    name: str
    seed: int
    step: int
    state: TrainState
    journal: Journal
    patience: Patience = dataclasses.field(default_factory=lambda: Patience(0))
    diverged_at: int = 0


def train_population(
    train_step: TrainStep,
    members: Sequence[Member],
    stream: Stream,
    cadence: Cadence,
    *,
    mesh: Mesh,
    rows: int,
    progress: Progress,
    validate: ValidateAll | None = None,
    should_end: Callable[[], bool] = lambda: False,
) -> None:
    """Trains every member up to `cadence.num_steps`, until it diverges, or to an end before.

    Members at the same step go together. If some are behind, as after a kill amid the checkpoints
    of a step, they go first and the others join where they stand. The program is the same all the
    time: rows for which there is no member just now repeat one, so that no bit depends on who is
    there.

    Args:
      train_step: a population's, compiled; it may donate its state.
      mesh: of the population.
      cadence: that of the members' journals too.
      rows: of the population's axis, at least one a member.
      validate: needed if the cadence has evaluations.
      should_end: looked at after every step; members are saved where it ends them.

    Raises: ValueError if there are too few rows, or no way to evaluate where that is due.
    """
    if validate is None and cadence.eval_every:
        raise ValueError("Evaluations are due, but there is nothing to do them with. Give it.")
    if rows < num_rows(len(members), mesh):
        raise ValueError(f"{rows} rows do not hold {len(members)} members. Give them more rows.")
    while not should_end():
        going = [
            member
            for member in members
            if not member.diverged_at and member.step < cadence.num_steps
        ]
        if not going:
            break
        step = min(member.step for member in going)
        together = [member for member in going if member.step == step]
        ahead = [member.step for member in going if member.step > step]
        steps = range(step + 1, min(ahead, default=cadence.num_steps) + 1)
        _go_together(
            train_step,
            together,
            stream,
            cadence,
            steps,
            mesh=mesh,
            rows=rows,
            progress=progress,
            validate=validate,
            should_end=should_end,
        )


def _go_together(
    train_step: TrainStep,
    members: Sequence[Member],
    stream: Stream,
    cadence: Cadence,
    steps: range,
    *,
    mesh: Mesh,
    rows: int,
    progress: Progress,
    validate: ValidateAll | None,
    should_end: Callable[[], bool],
) -> None:
    """Takes steps with members that stand just before the first of them."""

    def live() -> list[tuple[int, Member]]:
        return [(row, member) for row, member in enumerate(members) if not member.diverged_at]

    def show(lines: Sequence[Mapping[str, Any] | None]) -> None:
        written = [line for line in lines if line is not None]
        if written:
            progress.row(_mean(written))

    def give_up(member: Member, step: int, told: str) -> None:
        member.diverged_at = step
        member.journal.write(step, {"diverged_at": step})
        progress.say(f"{member.name} has diverged. {told} It is not trained on.")

    def on_metrics(step: int, metrics: Mapping[str, Any], slots: int, seconds: float) -> None:
        lines, seen = [], []
        for row, member in live():
            own = {name: values[row] for name, values in metrics.items()}
            if not are_finite(own):
                told = describe(step, "its own batch", own)
                if not own.get("skipped"):
                    member.journal.tally.add(own, slots // rows, seconds)
                    give_up(member, step, told)
                    continue
                progress.say(f"{member.name}: {told} Its update was left out.")
            lines.append(member.journal.add(step, own, slots // rows, seconds))
            seen.append(own)
        if seen:
            tokens = {name: sum(own[name] for own in seen) for name in _TOKENS}
            progress.step(step, {**_mean(seen), **tokens}, slots // rows * len(seen), seconds)
        show(lines)

    def on_stop(step: int, states: TrainState, is_end: bool) -> bool:
        found = validate(states.params) if validate and cadence.validates(step) else None
        is_saved = cadence.saves(step) or (is_end and should_end())
        lines = []
        for row, member in live():
            fields = None if found is None else found[row]
            if fields is not None:
                member.patience.see(fields["valid_nll"])
            state = unstack(states, [row])[0] if is_saved else None
            if state is not None and not is_finite(state):
                give_up(member, step, f"What step {step:,} has made is not finite.")
                continue
            lines.append(member.journal.stop(step, fields, state, member.patience))
        show(lines)
        return is_end

    states = drive(
        train_step,
        stack([member.state for member in members], mesh, rows),
        _stacked(stream, members, steps.start - 1, rows),
        steps,
        stops=cadence.stops,
        on_metrics=on_metrics,
        on_stop=on_stop,
        should_end=should_end,
    )
    for row, member in live():
        member.state = unstack(states, [row])[0]
        member.step = int(member.state.step)


_TOKENS = ("source_tokens", "target_tokens")


def _stacked(
    stream: Stream, members: Sequence[Member], step: int, rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the members' batches as one, while there is a member that has not diverged.

    Members of the same seed see the same batches, which are then drawn once.
    """
    seeds = [member.seed for member in members]
    seeds += [seeds[-1]] * (rows - len(seeds))
    streams = {seed: stream(seed, step) for seed in dict.fromkeys(seeds)}
    while not all(member.diverged_at for member in members):
        drawn = {seed: next(batches) for seed, batches in streams.items()}
        yield {
            name: np.stack([drawn[seed][name] for seed in seeds])
            for name in ("source_BS", "target_BT")
        }


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the means of the fields that all members have; the step is the same for all."""
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    means = {name: float(np.mean([row[name] for row in rows])) for name in shared}
    return {**means, "step": rows[0]["step"]} if "step" in rows[0] else means
