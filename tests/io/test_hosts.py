"""What processes tell each other, and what one hears that is alone or loses another."""

import socket
import time

import pytest

from jaxformer.io import hosts
from jaxformer.io.hosts import ENDED, LOST, Channel
from tests.channels import channels_of, in_threads


def test_a_process_that_is_alone_hears_itself():
    alone = hosts.channel()
    assert (alone.process_id, alone.num_processes) == (0, 1)
    assert alone.hosts == (socket.gethostname(),)
    assert alone.gather({"a": 1}) == [{"a": 1}]
    assert alone.from_first("b") == "b"
    alone.wait_for_all()


@pytest.fixture(params=[2, 3])
def channels(request):
    with channels_of(request.param) as made:
        yield made


@pytest.fixture
def three():
    with channels_of(3) as made:
        yield made


def test_all_hear_the_first_and_the_first_hears_all(channels):
    def speak(channel):
        mine = channel.process_id
        return (
            channel.gather({"number": mine}),
            channel.from_first(10 + mine),
            channel.gather(mine * 2),
            channel.from_first([mine, None, "é\n"]),
        )

    first, *others = in_threads(*[lambda channel=channel: speak(channel) for channel in channels])
    numbers = list(range(len(channels)))
    assert first[::2] == ([{"number": n} for n in numbers], [2 * n for n in numbers])
    assert first[1::2] == (10, [0, None, "é\n"])
    assert others == [([], 10, [], [0, None, "é\n"])] * len(others)


def test_none_goes_on_before_all_have_come(three):
    came = []

    def come(channel):
        time.sleep(0.05 * channel.process_id)
        came.append(channel.process_id)
        channel.wait_for_all()
        return len(came)

    assert in_threads(*[lambda channel=channel: come(channel) for channel in three]) == [3] * 3


def test_a_key_keeps_its_first_value_for_all(three):
    in_threads(*[lambda c=c: c.write("words/one", c.process_id) for c in three])
    values = in_threads(*[lambda c=c: c.wait_for("words/one") for c in three])
    assert len(set(values)) == 1
    three[1].write("words/one", "another")
    three[1].write("words/two", 2)
    for channel in three:
        assert channel.wait_for("words/two") == 2
        assert channel.read("words") == {"one": values[0], "two": 2}
        # A folder is not a beginning.
        assert channel.read("word") == {}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_connection_that_breaks_is_a_loss_to_all_others(three, lost):
    for connection in three[lost]._connections.values():
        connection.shutdown(socket.SHUT_RDWR)
    for channel in three:
        if channel.process_id != lost:
            assert channel.wait_until(lambda channel=channel: str(lost) in channel.read(LOST), 10)


@pytest.fixture
def one_end():
    """Yields a channel and the other end of its connection."""
    near, far = socket.socketpair()
    with far:
        yield Channel(0, ("a", "b"), {1: near}, lost_timeout=3.0), far
    near.close()


def test_silence_is_a_loss(one_end):
    channel, _ = one_end
    began = time.monotonic()
    assert channel.wait_until(lambda: bool(channel.read(LOST)), 30)
    assert time.monotonic() - began > 1


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n", b"[1]\n", b'{"a": 1}\n'])
def test_what_is_no_message_is_a_loss(one_end, words):
    channel, far = one_end
    far.sendall(words)
    assert channel.wait_until(lambda: bool(channel.read(LOST)), 2)


def test_who_says_nothing_but_lives_is_not_lost():
    with channels_of(2, lost_timeout=2.0) as channels:
        time.sleep(3.0)
        assert [channel.read(LOST) for channel in channels] == [{}, {}]


@pytest.mark.parametrize("parting", [0, 1])
def test_who_parts_is_not_lost_and_its_last_words_are_heard(parting):
    with channels_of(2) as channels:
        channels[parting].write(f"{ENDED}/{parting}", ["It was enough.", 2])
        channels[parting].part()
        other = channels[1 - parting]
        assert other.wait_for(f"{ENDED}/{parting}") == ["It was enough.", 2]
        time.sleep(0.2)
        assert other.read(LOST) == {}
