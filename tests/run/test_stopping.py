"""A signal to one process stops all of them after the same step, and none waits for ever."""

import random
import signal
import threading
import time

import pytest

from jaxformer.io.hosts import channel
from jaxformer.run.stopping import Stop
from tests.channels import channels_of, in_threads


def test_alone_it_is_the_signal_that_was_noted():
    noted = []
    stop = Stop(lambda: noted[0] if noted else None, channel())
    assert not stop.is_due()
    assert stop.obeyed() is None
    noted.append(signal.SIGINT)
    assert stop.is_due()
    assert stop.obeyed() is signal.SIGINT


class Steps:
    """Steps that need all processes: none is done before all have begun it."""

    def __init__(self, count):
        self._begun, self._changed = [0] * count, threading.Condition()

    def take(self, number, step, ahead=2):
        with self._changed:
            self._begun[number] = step
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: min(self._begun) >= step - ahead, timeout=20)

    def leave(self, number):
        self.take(number, 10**9, ahead=10**9)


@pytest.mark.parametrize("case", range(12))
def test_all_stop_after_the_same_step(case):
    generator = random.Random(case)
    count, num_steps = generator.choice([2, 3]), 40
    steps = Steps(count)
    # Which process gets it, and when; in some cases two do, and in some at the very end.
    wishes = {
        generator.randrange(count): (generator.choice([1, 20, 39, 40]), generator.choice([2, 15]))
        for _ in range(generator.choice([1, 2]))
    }

    def train(channel):
        number, noted = channel.process_id, []
        stop = Stop(lambda: noted[0] if noted else None, channel)
        for step in range(1, num_steps + 1):
            steps.take(number, step)
            if number in wishes and step == wishes[number][0]:
                noted.append(signal.Signals(wishes[number][1]))
            if step < num_steps and stop.is_due():
                break
            time.sleep(generator.random() * 0.002)
        steps.leave(number)
        return step, stop.obeyed()

    with channels_of(count) as channels:
        results = in_threads(*[lambda channel=channel: train(channel) for channel in channels])
    assert len({step for step, _ in results}) == 1
    last = results[0][0]
    assert last >= min(step for step, _ in wishes.values())
    if last < num_steps:
        obeyed = {number for _, number in results}
        assert len(obeyed) == 1
        assert obeyed <= {signal.Signals(number) for _, number in wishes.values()}


def test_a_wish_in_time_is_obeyed():
    noted = [signal.SIGTERM]

    def train(channel):
        wish = (lambda: noted[0]) if channel.process_id else (lambda: None)
        stop = Stop(wish, channel)
        for step in range(1, 1000):
            if stop.is_due():
                return step, stop.obeyed()
            time.sleep(0.005)
        return None

    with channels_of(2) as channels:
        first, second = in_threads(*[lambda each=each: train(each) for each in channels])
    assert first == second
    assert first[1] is signal.SIGTERM


def test_nobody_waits_for_one_that_has_taken_all_its_steps():
    with channels_of(2) as (first, second):
        stop = Stop(lambda: None, first)
        for _ in range(5):
            assert not stop.is_due()

        def go_on():
            stop = Stop(lambda: signal.SIGTERM, second)
            for step in range(1, 1000):
                if stop.is_due():
                    return step
                time.sleep(0.005)
            return None

        # More than the other has taken; in a run, both have as many to take.
        assert in_threads(go_on)[0] > 5
