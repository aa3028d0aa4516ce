"""The loop: what happens at which step, in which order, and what a checkpoint remembers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from flax import struct

from jaxformer.run.finite import NotFinite
from jaxformer.run.patience import Patience
from jaxformer.run.tally import Tally
from jaxformer.run.training import Cadence, drive, resume_point, train, training_steps


@struct.dataclass
class State:
    """Stands for a TrainState."""

    step: int
    params: float = 0.0


def fake_step(state, batch):
    """Counts; the loss of step n is n, over n target tokens."""
    step = state.step + 1
    metrics = {
        "loss": step, "nll": step / 2, "source_tokens": 2, "target_tokens": step,
        "learning_rate": step / 10, "grad_norm": 1,
    }  # fmt: skip
    return replace(state, step=step, params=state.params + 1), metrics


class Log:
    """Notes what the loop does, in order; stands for checkpoints, metrics file and progress."""

    def __init__(self):
        self.events, self.rows, self.metas, self.live = [], [], {}, []
        self.passing = []

    def count(self, batches, start):
        """Notes the number of the step that each batch is for."""
        for step, batch in enumerate(batches, start + 1):
            self.begun = step
            yield batch

    def save(self, state, meta, is_due, best):
        self.events.append(f"save {state.step}")
        self.metas[state.step], self.best = meta, best
        if not is_due:
            self.passing.append(state.step)

    def write(self, row):
        self.events.append(f"write {row['step']}")
        self.rows.append(row)

    def sync(self):
        pass

    def step(self, step, metrics, slots, seconds):
        self.live.append(step)

    def row(self, row):
        pass

    def say(self, text):
        self.events.append(text)

    def validate(self, params):
        self.events.append(f"validate {params:.0f}")
        return {"valid_nll": params}


def batches(start):
    while True:
        start += 1
        yield {"source_BS": np.zeros((1, 3)), "target_BT": np.zeros((start, 5))}


def run(
    cadence,
    start=0,
    tally=None,
    with_validation=True,
    stop=0,
    step=fake_step,
    log=None,
    patience=None,
):
    log = log or Log()
    state = train(
        step,
        State(start, start),
        log.count(batches(start), start),
        cadence,
        checkpoints=log,
        metrics_file=log,
        progress=log,
        validate=log.validate if with_validation else None,
        tally=tally,
        patience=patience,
        name_batch="batch no. {}".format,
        should_end=lambda: log.begun == stop,
        meta={"data": "d"},
    )
    return log, state


def test_the_generator_yields_the_state_after_each_batch():
    steps = training_steps(fake_step, State(0), batches(0))
    assert [next(steps)[0].step for _ in range(3)] == [1, 2, 3]
    assert next(steps)[1]["loss"] == 4


def test_the_host_looks_on_from_two_steps_behind_and_catches_up_at_a_stop():
    seen = []

    def slow_step(state, batch):
        seen.append(f"take {state.step + 1}")
        return fake_step(state, batch)

    state = drive(
        slow_step,
        State(3),
        batches(3),
        range(4, 9),
        stops=lambda step: step == 7,
        on_metrics=lambda step, metrics, slots, seconds: seen.append(f"see {step}"),
        on_stop=lambda step, state, is_end: seen.append(f"stop {state.step}") or is_end,
    )
    assert state == State(8, 5)
    assert seen == [
        "take 4", "take 5", "take 6", "see 4", "take 7", "see 5", "see 6", "see 7", "stop 7",
        "take 8", "see 8", "stop 8",
    ]  # fmt: skip


def test_everything_happens_when_it_is_due_and_lines_come_before_checkpoints():
    log, state = run(Cadence(num_steps=10, log_every=3, eval_every=4, checkpoint_every=6))
    assert state.step == 10
    assert log.events == [
        "write 3", "validate 4", "write 4", "write 6", "save 6", "validate 8", "write 8",
        "write 9", "write 10", "save 10",
    ]  # fmt: skip
    assert log.live == list(range(1, 11))


def test_lines_are_means_over_target_tokens_since_the_last_line():
    log, _ = run(Cadence(num_steps=6, log_every=3, eval_every=0, checkpoint_every=0))
    assert [row["step"] for row in log.rows] == [3, 6]
    for row, steps in zip(log.rows, ([1, 2, 3], [4, 5, 6]), strict=True):
        squares, tokens = sum(step * step for step in steps), sum(steps)
        assert row["loss"] == pytest.approx(squares / tokens)
        assert row["nll"] == pytest.approx(squares / tokens / 2)
        assert row["target_tokens"] == tokens
        assert row["source_tokens"] == 6
        assert row["grad_norm"] == 1
        assert row["learning_rate"] == np.float32(steps[-1] / 10)
        slots = sum(3 + 5 * step for step in steps)
        assert row["padding"] == pytest.approx(1 - (6 + tokens) / slots)


def test_evaluations_that_bring_nothing_end_it_with_a_checkpoint():
    # Of the fake's evaluations the first is the best.
    cadence = Cadence(num_steps=20, log_every=0, eval_every=2, checkpoint_every=4)
    log, state = run(cadence, patience=Patience(3))
    assert state.step == 8
    assert log.events[-3:] == ["validate 8", "write 8", "save 8"]
    # The evaluation of step 2 was better, but that step is not saved.
    saved = {"saved_best": 4, "saved_step": 4}
    assert log.metas[4]["patience"] == {"best": 2, "waited": 1, **saved}
    assert log.metas[8]["patience"] == {"best": 2, "waited": 3, **saved}
    assert log.best == 4
    # From a checkpoint it goes on counting.
    resumed, state = run(cadence, 4, patience=Patience.from_json(3, log.metas[4]["patience"]))
    assert state.step == 8
    assert resumed.metas[8] == log.metas[8]


@pytest.mark.parametrize("stop", range(1, 12))
def test_stopped_anywhere_the_lines_are_those_of_the_unbroken_run(stop):
    cadence = Cadence(num_steps=12, log_every=4, eval_every=6, checkpoint_every=3)
    whole, _ = run(cadence)
    first, _ = run(replace(cadence, num_steps=stop))
    tally, last_kept = resume_point(first.metas[stop], stop)
    rest, state = run(cadence, stop, tally)
    assert state == State(12, 12)
    rows = [row for row in first.rows if row["step"] <= last_kept] + rest.rows
    for row in (*rows, *whole.rows):
        row.pop("seconds")
    assert rows == whole.rows
    assert rest.metas[12]["data"] == "d"


@pytest.mark.parametrize("stop", range(1, 13))
def test_a_wish_to_stop_saves_the_step_and_only_lines_that_are_due(stop):
    cadence = Cadence(num_steps=12, log_every=4, eval_every=6, checkpoint_every=3)
    whole, _ = run(cadence)
    first, state = run(cadence, stop=stop)
    assert state == State(stop, stop)
    assert first.events[-1] == f"save {stop}"
    # A run without the stop would not have that checkpoint.
    assert first.passing == [stop][: stop % 3]
    tally, last_kept = resume_point(first.metas[stop], stop)
    assert [row["step"] for row in first.rows if row["step"] > last_kept] == []
    rest, _ = run(cadence, stop, tally)
    rows = first.rows + rest.rows
    for row in (*rows, *whole.rows):
        row.pop("seconds")
    assert rows == whole.rows


def broken_step(field, number, value=math.nan):
    """Returns the step that gives `field` of its metrics, or the parameters, another value once."""

    def step(state, batch):
        state, metrics = fake_step(state, batch)
        if state.step == number and field == "params":
            return state.replace(params=value), metrics
        return state, {**metrics, field: value} if state.step == number else metrics

    return step


@pytest.mark.parametrize("field", ["loss", "grad_norm", "learning_rate", "params"])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("number", [5, 6, 7, 8, 9])
def test_nothing_after_a_step_that_is_not_finite_is_kept(field, value, number):
    cadence = Cadence(num_steps=12, log_every=1, eval_every=4, checkpoint_every=3)
    log = Log()
    with pytest.raises(NotFinite) as raised:
        run(cadence, step=broken_step(field, number, value), log=log)
    saved = [event for event in log.events if event.startswith("save")]
    # Before the batch's name there is the step's; parameters are looked at when they are saved.
    if field == "params":
        found = -(-number // 3) * 3
        assert str(raised.value) == (
            f"What step {found} (batch no. {found}) has made is not finite."
        )
    else:
        found = number
        assert str(raised.value).startswith(f"Step {number} (batch no. {number}) is not finite: ")
        assert [row["step"] for row in log.rows] == list(range(1, number))
    assert saved == [f"save {step}" for step in range(3, found, 3)]


def test_a_step_that_was_left_out_is_said_and_in_no_mean():
    def step(state, batch):
        state, metrics = fake_step(state, batch)
        is_bad = state.step in (2, 7, 8, 9)
        return state, {**metrics, "loss": math.nan, "skipped": 1.0} if is_bad else metrics

    cadence = Cadence(num_steps=9, log_every=3, eval_every=0, checkpoint_every=0)
    log, _ = run(cadence, step=step)
    assert log.events[0] == (
        "Step 2 (batch no. 2) is not finite: loss nan, gradient norm 1, learning rate 0.2. Its "
        "update was left out."
    )
    one, two, three = log.rows
    assert (one["loss"], one["target_tokens"], one["skipped"]) == ((1 * 1 + 3 * 3) / 4, 4, 1)
    assert "skipped" not in two
    assert math.isnan(three["loss"])
    assert math.isnan(three["grad_norm"])
    assert three["skipped"] == 3
    assert Tally.from_json({"skipped": 3}).is_empty is False


def test_zero_is_never():
    log, _ = run(Cadence(num_steps=5, log_every=0, eval_every=0, checkpoint_every=0))
    assert log.events == ["save 5"]


def test_without_a_validation_split_evaluations_do_not_matter():
    log, _ = run(
        Cadence(num_steps=5, log_every=2, eval_every=1, checkpoint_every=0), with_validation=False
    )
    assert log.events == ["write 2", "write 4", "write 5", "save 5"]


def test_a_tally_survives_json():
    tally = Tally()
    tally.add(fake_step(State(2), None)[1], 9, 0.1)
    assert Tally.from_json(tally.to_json()) == tally
    assert tally.padding == pytest.approx(1 - 5 / 9)
