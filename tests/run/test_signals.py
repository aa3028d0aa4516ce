"""Signals: the first is noted, the second ends the process, and what was before comes back."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxformer.run.signals import noted_signals

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted(number):
    before = signal.getsignal(number)
    with noted_signals() as noted_signal:
        assert noted_signal() is None
        os.kill(os.getpid(), number)
        assert noted_signal() is number
        assert signal.getsignal(number) is signal.SIG_DFL
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_so(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted_signals() as noted_signal:
            os.kill(os.getpid(), signal.SIGINT)
            assert noted_signal() is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_same_again_in_a_moment_is_one_with_the_first():
    with noted_signals() as noted_signal:
        for delay in (0.2, 0.4):
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGTERM)).start()
        before = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        assert time.monotonic() - before > 0.5
        assert noted_signal() is signal.SIGTERM


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ends_the_process_at_once(second):
    # Within one call that a handler would have to wait for, as a compilation is.
    script = (
        "import os, signal\n"
        "from jaxformer.run.signals import noted_signals\n"
        "with noted_signals() as noted_signal:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(noted_signal().name, flush=True)\n"
        "    sum(range(10**10))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"SIGTERM\n"
        process.send_signal(second)
        try:
            assert process.wait(timeout=20) == -second
        finally:
            process.kill()
