"""A relay passes on what both sides say, and keeps the end of the far side to itself."""

import socket

import pytest

from jaxformer.io.relay import relay


def test_both_sides_hear_each_other_and_the_near_one_of_no_end():
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = relay("127.0.0.1", service.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)) as near:
            far, _ = service.accept()
            near.sendall(b"question")
            assert far.recv(100) == b"question"
            far.sendall(b"answer")
            assert near.recv(100) == b"answer"
            far.close()
            near.settimeout(0.3)
            with pytest.raises(TimeoutError):
                near.recv(100)
            # Nor does it hear of it when it goes on.
            for _ in range(3):
                near.sendall(b"more")
                with pytest.raises(TimeoutError):
                    near.recv(100)


def test_the_far_side_hears_of_the_end_of_the_near_one():
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = relay("127.0.0.1", service.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)) as near:
            far, _ = service.accept()
            near.sendall(b"x" * 200_000)
        with far:
            far.settimeout(10)
            received = 0
            while chunk := far.recv(65536):
                received += len(chunk)
        assert received == 200_000


def test_a_service_that_comes_later_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
    near_port = relay("127.0.0.1", port)
    with socket.create_connection(("127.0.0.1", near_port)) as near:
        near.sendall(b"early")
        with socket.create_server(("127.0.0.1", port)) as service:
            far, _ = service.accept()
            with far:
                assert far.recv(100) == b"early"
