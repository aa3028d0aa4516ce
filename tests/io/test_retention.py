"""Which checkpoints stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.retention import Retention
from tests.io.test_checkpoint import ABSTRACT, assert_same, make_state


def held(saved, *, keep, every, best=lambda steps: None):
    """Returns what stays when the steps have been saved one after another."""
    policy, steps = Retention(keep), []
    for step in saved:
        policy.add(step, is_due=every > 0 and step % every == 0, best=best([*steps, step]))
        steps.append(step)
        steps = [step for step, is_kept in zip(steps, policy.stays(steps), strict=True) if is_kept]
    return steps


def test_the_newest_that_were_due_stay():
    assert held([3, 6, 9, 12], keep=2, every=3) == [9, 12]
    assert held([3, 6], keep=5, every=3) == [3, 6]


def test_one_that_was_not_due_gives_way_to_the_next():
    assert held([3, 6, 7], keep=2, every=3) == [3, 6, 7]
    assert held([3, 6, 7, 9], keep=2, every=3) == [6, 9]
    assert held([4, 7], keep=2, every=0) == [7]


def test_the_best_stays():
    assert held([3, 6, 9, 12], keep=1, every=3, best=lambda steps: 3) == [3, 12]
    assert held([3, 6, 9, 12], keep=1, every=3, best=lambda steps: max(steps)) == [12]
    # It may have been damaged and set aside.
    assert held([9, 12], keep=1, every=3, best=lambda steps: 6) == [12]


@given(
    every=st.integers(1, 4),
    keep=st.integers(1, 4),
    extra=st.sets(st.integers(1, 40)),
    number=st.integers(0, 9),
)
def test_stops_between_change_nothing_at_the_end(every, keep, extra, number):
    due = [*range(every, 41, every)]
    best = due[number % len(due)]

    def found(saved):
        return held(
            sorted({*saved, 41}),
            keep=keep,
            every=every,
            best=lambda steps: best if max(steps) >= best else None,
        )

    assert found(due) == found({*due, *extra})


def test_the_best_is_kept_and_one_that_was_not_due_is_not(tmp_path):
    for step in (10, 20, 25, 30):
        # Opened anew each time: what was due is known from the newest.
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(make_state(step), is_due=step % 10 == 0, best=10)
            assert checkpoints.latest_step() == step
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.all_steps() == [10, 30]
        assert checkpoints.last_steps(5) == [30]
        assert checkpoints.read_meta() == {}
        assert_same(next(checkpoints.params_of([10], ABSTRACT.params)), make_state(10).params)
        with pytest.raises(ValueError, match="No checkpoint of step 20 in"):
            next(checkpoints.params_of([20], ABSTRACT.params))


def test_one_that_was_not_due_is_the_newest_of_the_last(tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (10, 20, 30, 35):
            checkpoints.save(make_state(step), is_due=step % 10 == 0, best=10)
        assert checkpoints.all_steps() == [10, 20, 30, 35]
        assert checkpoints.last_steps(9) == [35, 30, 20]
        checkpoints.set_aside(35)
        checkpoints.set_aside(30)
        # What 20 remembers: then 10 was one of the newest.
        assert checkpoints.last_steps(9) == [20, 10]
        checkpoints.save(make_state(40))
        assert checkpoints.all_steps() == [20, 40]
