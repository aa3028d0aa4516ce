"""The loop of a population: who goes when, and what each of them writes down."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxformer.population import make_mesh, make_population_step
from jaxformer.run.population import Member, train_population
from jaxformer.run.training import Cadence, Journal

CADENCE = Cadence(num_steps=6, log_every=2, eval_every=3, checkpoint_every=4)


class State(struct.PyTreeNode):
    """Stands for a TrainState: the sum of all numbers that it has seen, and when it diverges."""

    step: jax.Array
    params: jax.Array
    bad_step: jax.Array


def step(state, batch):
    """Adds up the batch; the loss is the sum, but not finite from `bad_step` on.

    If that is negative it is the gradient which is not finite, from minus that step on.
    """
    total = state.params + jnp.sum(batch["source_BS"])
    number = state.step + 1
    is_bad = (state.bad_step != 0) & (number >= jnp.abs(state.bad_step))
    metrics = {
        "loss": jnp.where(is_bad & (state.bad_step > 0), jnp.inf, total), "nll": total,
        "source_tokens": 2.0, "target_tokens": 1.0, "learning_rate": number / 10,
        "grad_norm": jnp.where(is_bad & (state.bad_step < 0), jnp.nan, 1.0),
    }  # fmt: skip
    return state.replace(step=number, params=total), jax.tree.map(jnp.float32, metrics)


MESH = make_mesh(1)
POPULATION_STEP = jax.jit(make_population_step(step, MESH))


class Log:
    """Notes what the loop does with a member; stands for its checkpoints and metrics file."""

    def __init__(self):
        self.events, self.rows, self.saved = [], [], {}

    def save(self, state, meta, is_due, best):
        del is_due
        self.events.append(f"save {state.step}")
        self.saved[int(state.step)], self.meta, self.best = float(state.params), meta, best

    def sync(self):
        pass

    def write(self, row):
        self.events.append(f"write {row['step']}")
        self.rows.append(row)


class Progress:
    """Notes what is shown."""

    def __init__(self):
        self.live, self.rows, self.said = [], [], []

    def step(self, step, metrics, slots, seconds):
        self.live.append((step, metrics["target_tokens"], slots))

    def row(self, row):
        self.rows.append(row)

    def say(self, text):
        self.said.append(text)


def number_of(seed, step):
    """What a run of a seed sees at a step."""
    return 100 * seed + step


class Streams:
    """Batches of one number; notes which were begun."""

    def __init__(self):
        self.begun = []

    def __call__(self, seed, done):
        self.begun.append((seed, done))
        return self._batches(seed, done)

    def _batches(self, seed, done):
        while True:
            done += 1
            value = np.array([[number_of(seed, done)]], np.float32)
            yield {"source_BS": value, "target_BT": np.zeros((1, 2), np.float32)}


def expected(seed, until, since=0):
    return float(sum(number_of(seed, step) for step in range(since + 1, until + 1)))


def run(specs, cadence=CADENCE, rows=None, with_validation=True, end_at=None, step=POPULATION_STEP):
    """Trains members given as (seed, steps done, step of divergence)."""
    members, logs = [], []
    for number, (seed, done, bad) in enumerate(specs):
        logs.append(Log())
        state = State(jnp.int32(done), jnp.float32(expected(seed, done)), jnp.int32(bad))
        journal = Journal(cadence, checkpoints=logs[-1], metrics_file=logs[-1])
        members.append(Member(f"run {number}", seed, done, state, journal))
    streams, progress = Streams(), Progress()
    train_population(
        step,
        members,
        streams,
        cadence,
        mesh=MESH,
        rows=rows or len(members),
        progress=progress,
        validate=(lambda params: [{"valid_nll": float(each)} for each in params])
        if with_validation
        else None,
        should_end=lambda: (
            end_at is not None and bool(progress.live) and progress.live[-1][0] >= end_at
        ),
    )
    return members, logs, streams, progress


def test_every_member_sees_its_own_batches_and_writes_its_own_lines():
    members, logs, _, progress = run([(0, 0, 0), (3, 0, 0)])
    for member, log, seed in zip(members, logs, (0, 3), strict=True):
        assert log.events == [
            "write 2", "write 3", "write 4", "save 4", "write 6", "save 6",
        ]  # fmt: skip
        assert log.saved == {4: expected(seed, 4), 6: expected(seed, 6)}
        assert [row.get("valid_nll") for row in log.rows] == [
            None, expected(seed, 3), None, expected(seed, 6),
        ]  # fmt: skip
        assert log.rows[0]["loss"] == np.mean([expected(seed, 1), expected(seed, 2)])
        assert log.rows[0]["padding"] == pytest.approx(0.0)
        assert (member.step, float(member.state.params)) == (6, expected(seed, 6))
        # The second evaluation was worse.
        best = expected(seed, 3)
        told = {"best": best, "waited": 1, "saved_best": expected(seed, 6), "saved_step": 6}
        assert (log.meta["patience"], log.best) == (told, 6)
    # What is shown is of all: tokens and slots are sums, all else means.
    assert progress.live == [(step, 2.0, 6) for step in range(1, 7)]
    assert [row["step"] for row in progress.rows] == [2, 3, 4, 6]
    assert progress.rows[1]["valid_nll"] == np.mean([expected(0, 3), expected(3, 3)])


def test_members_of_a_seed_share_its_stream():
    _, logs, streams, _ = run([(1, 0, 0), (2, 0, 0), (1, 0, 0)], rows=4)
    assert streams.begun == [(1, 0), (2, 0)]
    assert logs[0].saved == logs[2].saved != logs[1].saved


def test_the_hindmost_go_first_and_the_others_join():
    members, logs, streams, _ = run([(0, 4, 0), (1, 2, 0), (2, 6, 0), (3, 2, 0)])
    assert sorted(streams.begun) == [(0, 4), (1, 2), (1, 4), (3, 2), (3, 4)]
    assert [float(member.state.params) for member in members] == [
        expected(seed, 6) for seed in range(4)
    ]
    assert logs[0].events == ["write 6", "save 6"]
    assert logs[1].events == ["write 3", "write 4", "save 4", "write 6", "save 6"]
    assert logs[2].events == []


def test_where_the_others_join_nothing_is_written_that_is_not_due():
    _, logs, _, _ = run([(0, 0, 0), (1, 1, 0)])
    assert logs[0].events == ["write 2", "write 3", "write 4", "save 4", "write 6", "save 6"]
    assert logs[1].rows[0]["nll"] == expected(1, 2)
    assert logs[0].rows[0]["nll"] == np.mean([expected(0, 1), expected(0, 2)])


def test_an_update_that_is_left_out_is_said_and_not_the_end():
    def leave_out(state, batch):
        new, metrics = step(state, batch)
        is_left_out = ~jnp.isfinite(metrics["loss"])
        return new, {**metrics, "skipped": jnp.float32(is_left_out)}

    population_step = jax.jit(make_population_step(leave_out, MESH))
    # The first leaves out two of six updates, the others none.
    members, logs, _, progress = run([(0, 0, 5), (1, 0, 0)], step=population_step)
    assert [member.diverged_at for member in members] == [0, 0]
    assert [row.get("skipped") for row in logs[0].rows] == [None, None, None, 2]
    assert not any("skipped" in row for row in logs[1].rows)
    assert [text.split(":")[0] for text in progress.said] == ["run 0", "run 0"]
    assert "Step 5 (its own batch) is not finite: loss inf" in progress.said[0]
    assert progress.said[0].endswith(" Its update was left out.")


@pytest.mark.parametrize("bad", [1, 3, 4, 5])
def test_one_that_diverges_is_given_up_and_the_others_do_not_notice(bad):
    members, logs, _, progress = run([(0, 0, 0), (1, 0, bad), (2, 0, 0)])
    _, alone, _, _ = run([(0, 0, 0), (2, 0, 0)])
    for log, other in ((logs[0], alone[0]), (logs[2], alone[1])):
        assert log.events == other.events
        assert log.saved == other.saved
    assert [member.diverged_at for member in members] == [0, bad, 0]
    row = logs[1].rows[-1]
    assert (row["step"], row["diverged_at"], row["loss"]) == (bad, bad, float("inf"))
    # No checkpoint is overwritten by what is not finite.
    assert list(logs[1].saved) == [4] * (bad > 4)
    assert progress.said == [
        f"run 1 has diverged. Step {bad} (its own batch) is not finite: loss inf, gradient norm 1, "
        f"learning rate {bad / 10:.4g}. It is not trained on."
    ]
    assert all(np.isfinite(row["loss"]) for row in progress.rows)


def test_a_gradient_that_is_not_finite_counts_before_its_parameters_are_saved():
    members, logs, _, progress = run([(0, 0, 0), (1, 0, -4)])
    assert [member.diverged_at for member in members] == [0, 4]
    assert logs[1].saved == {}
    assert "gradient norm nan" in progress.said[0]


def test_when_all_have_diverged_it_is_over():
    members, logs, _, progress = run([(0, 0, 2), (1, 0, 3)], replace(CADENCE, num_steps=10**9))
    assert [member.diverged_at for member in members] == [2, 3]
    assert [log.events[-1] for log in logs] == ["write 2", "write 3"]
    assert progress.live[-1][0] == 2


def test_a_member_gone_on_with_does_not_notice_those_that_have_diverged_before():
    members, _, streams, _ = run([(0, 4, 0)], rows=3)
    assert streams.begun == [(0, 4)]
    assert float(members[0].state.params) == expected(0, 6)


def test_without_a_validation_split_there_are_no_evaluations():
    cadence = replace(CADENCE, eval_every=0, checkpoint_every=0)
    _, logs, _, _ = run([(0, 0, 0)], cadence, with_validation=False)
    assert logs[0].events == ["write 2", "write 4", "write 6", "save 6"]
    with pytest.raises(ValueError, match="nothing to do them with"):
        run([(0, 0, 0)], with_validation=False)


# The host sees a step when two more have been taken, but at once where the loop stops.
@pytest.mark.parametrize(("end_at", "step"), [(1, 3), (2, 4), (3, 4), (4, 5)])
def test_where_it_is_ended_everyone_is_saved(end_at, step):
    members, logs, _, _ = run([(0, 0, 0), (1, 0, 0), (2, 0, 1)], end_at=end_at)
    for member, log, seed in zip(members[:2], logs, (0, 1), strict=False):
        assert member.step == step
        assert log.saved[step] == expected(seed, step)
        assert log.events[-1] == f"save {step}"
    assert logs[2].saved == {}


def test_who_is_ahead_waits_for_the_next_start():
    members, logs, _, _ = run([(0, 0, 0), (1, 5, 0)], end_at=1)
    assert [member.step for member in members] == [3, 5]
    assert logs[1].events == []


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="1 rows do not hold 2 members"):
        run([(0, 0, 0), (1, 0, 0)], rows=1)
