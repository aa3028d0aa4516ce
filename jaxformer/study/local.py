"""Running the members of a sweep on this machine, each as processes of their own."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from jaxformer.study.manifest import Member
from jaxformer.study.standing import read_scores

PROGRAM = (sys.executable, "-m", "jaxformer")
"""What a member's `jaxformer` stands for here."""

_SECONDS_BETWEEN_LOOKS = 0.2
# A training leaves at the end of its step; what takes longer is killed, and loses no checkpoint.
_SECONDS_TO_LEAVE = 30.0


@dataclass(frozen=True)
class Outcome:
    """How a member ended.

    Attributes:
      seconds: that it ran for.
      failure: why it is not finished; "" if it is.
    """

    member: Member
    seconds: float
    failure: str


class Watch(Protocol):
    """What is told how a sweep goes on."""

    def started(self, member: Member) -> None:
        """A member is started, or gone on with."""

    def ended(self, outcome: Outcome) -> None:
        """A member has ended, well or not."""

    def tick(self, running: Sequence[Member]) -> None:
        """Some time has passed: called several times a second."""


def run_local(
    members: Iterable[Member],
    folder: str | os.PathLike[str],
    watch: Watch,
    *,
    jobs: int = 1,
    program: Sequence[str] = PROGRAM,
) -> list[Outcome]:
    """Trains and scores members in their order, and goes on past those that fail.

    Finished ones are passed over; a training that was stopped goes on, since that is what its
    command does. Everything a member prints is appended to log.txt in its workdir. Ctrl-C, SIGTERM
    and SIGHUP stop what runs. To be called in the process's main thread.

    Args:
      folder: of the manifest.
      jobs: members at a time.
      program: stands for the word `jaxformer` of their command lines.

    Returns: the outcomes, in the order of ending.
    Raises: KeyboardInterrupt after everything has been stopped.
    """
    waiting, running, outcomes = deque(members), list[_Attempt](), list[Outcome]()

    def end(outcome: Outcome) -> None:
        outcomes.append(outcome)
        watch.ended(outcome)

    with _noted_interruptions() as interruptions:
        try:
            while (waiting or running) and not interruptions:
                while waiting and len(running) < jobs:
                    member = waiting.popleft()
                    # Asked only now: another process may have finished it.
                    if read_scores(folder, member) is not None:
                        end(Outcome(member, 0.0, ""))
                        continue
                    watch.started(member)
                    try:
                        running.append(_Attempt(member, Path(folder), program))
                    except OSError as error:
                        end(Outcome(member, 0.0, _describe(error)))
                watch.tick([attempt.member for attempt in running])
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for attempt in list(running):
                    if (outcome := attempt.look()) is not None:
                        running.remove(attempt)
                        end(outcome)
            if waiting or running:
                raise KeyboardInterrupt
        finally:
            _stop(running, interruptions)
    return outcomes


class _Attempt:
    """One attempt at a member: its training, then its evaluation."""

    def __init__(self, member: Member, folder: Path, program: Sequence[str]) -> None:
        """Starts the training.

        Raises: OSError if that cannot be, BlockingIOError if another process is at the member.
        """
        self.member = member
        self._folder, self._program = folder, program
        self._commands = deque([member.argv, member.evaluate])
        self._start = time.monotonic()
        workdir = folder / member.workdir
        workdir.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._log: BinaryIO = stack.enter_context(open(workdir / "log.txt", "ab", buffering=0))
            # Held by the processes as well, which inherit the file: so it outlives this one.
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._launch()
            stack.pop_all()

    def look(self) -> Outcome | None:
        """Goes on with the next command when one has ended; returns how the member ended."""
        if not self.is_over():
            return None
        code = self._end_command()
        failure = ""
        if code:
            how = f"code {code}" if code > 0 else signal.Signals(-code).name
            failure = f"{self._name} ended with {how}"
            failure += f": {self._last_words}" if self._last_words else ""
        elif self._commands:
            try:
                self._launch()
            except OSError as error:
                failure = _describe(error)
            else:
                return None
        elif read_scores(self._folder, self.member) is None:
            failure = f"{self._name} left no scores of step {self.member.num_steps}"
        self._log.close()
        return Outcome(self.member, time.monotonic() - self._start, failure)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the command and what it has started."""
        # macOS has the other error for a group that has ended.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def is_over(self) -> bool:
        """Returns whether the command has ended."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ends the command, if it has not ended yet, and the attempt with it."""
        self._end_command()
        self._log.close()

    def _end_command(self) -> int:
        """Returns the command's exit code, negative if a signal has ended it."""
        # What it has started must not outlive it, nor keep its stderr open.
        self.send(signal.SIGKILL)
        code = self._process.wait()
        self._reader.join()
        return code

    def _launch(self) -> None:
        _, self._name, *arguments = self._commands.popleft()
        command = [*self._program, self._name, *arguments]
        self._log.write(f"$ {shlex.join(command)}\n".encode())
        self._last_words = ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.PIPE,
            # A terminal's Ctrl-C reaches this process only, which then stops the others.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        """Copies stderr to the log and remembers its last line."""
        stream = self._process.stderr
        if stream is None:
            return
        with stream:
            for line in stream:
                # Read on even if the disk is full: the command would wait for a reader.
                with contextlib.suppress(OSError):
                    self._log.write(line)
                words = line.decode(errors="replace").strip()
                # The first line of what the program itself says tells the most.
                if words and not self._last_words.startswith("jaxformer: "):
                    self._last_words = words


def _stop(running: Sequence[_Attempt], interruptions: Sequence[int]) -> None:
    """Asks what runs to leave, and ends what does not; another Ctrl-C ends it at once."""
    for attempt in running:
        # Not SIGINT: whoever starts a sweep by a shell's & has it ignored, and so have members.
        attempt.send(signal.SIGTERM)
    before, deadline = len(interruptions), time.monotonic() + _SECONDS_TO_LEAVE
    while len(interruptions) == before and time.monotonic() < deadline:
        if all(attempt.is_over() for attempt in running):
            break
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    for attempt in running:
        attempt.stop()


@contextlib.contextmanager
def _noted_interruptions() -> Generator[list[int]]:
    """Collects Ctrl-C, SIGTERM and SIGHUP, unless they are ignored, instead of raising anything.

    So no process is lost sight of between its start and the note of it.
    """
    noted: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe(error: OSError) -> str:
    if isinstance(error, BlockingIOError):
        return "another process is at it, and holds its log.txt"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
