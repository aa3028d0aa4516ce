"""Which checkpoints stay."""

from hypothesis import given
from hypothesis import strategies as st

from jaxformer.io.retention import Retention


def stays(steps, **options):
    policy = Retention(**options)
    return [step for step, is_kept in zip(steps, policy.stays(steps), strict=True) if is_kept]


def test_the_newest_that_were_due_stay():
    assert stays([3, 6, 9, 12], keep=2, every=3) == [9, 12]
    assert stays([3, 6], keep=5, every=3) == [3, 6]


def test_one_that_was_not_due_gives_way_to_the_next():
    assert stays([3, 6, 7], keep=2, every=3) == [3, 6, 7]
    assert stays([3, 6, 7, 9], keep=2, every=3) == [6, 9]
    assert stays([4, 7], keep=2, every=0) == [7]


def test_the_best_stays():
    assert stays([3, 6, 9, 12], keep=1, every=3, best=3) == [3, 12]
    assert stays([3, 6, 9, 12], keep=1, every=3, best=12) == [12]
    # It may have been damaged and set aside.
    assert stays([9, 12], keep=1, every=3, best=6) == [12]


@given(
    every=st.integers(1, 4),
    keep=st.integers(1, 4),
    extra=st.sets(st.integers(1, 40)),
    best=st.sampled_from([None, 4, 8]),
)
def test_stops_between_change_nothing_at_the_end(every, keep, extra, best):
    policy = Retention(keep, every, best)

    def held_at_the_end(saved):
        held = []
        for step in saved:
            held.append(step)
            held = [step for step, is_kept in zip(held, policy.stays(held), strict=True) if is_kept]
        return held

    due = range(every, 41, every)
    assert held_at_the_end(sorted({*due, 41})) == held_at_the_end(sorted({*due, 41} | extra))
