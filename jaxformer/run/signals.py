"""SIGINT and SIGTERM as a wish, which a loop looks at where it can stop."""

import contextlib
import signal
import time
from collections.abc import Callable, Generator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_WISH = 1.0


@contextlib.contextmanager
def noted_signals() -> Generator[Callable[[], signal.Signals | None]]:
    """Notes the first SIGINT or SIGTERM within; the second ends the process at once.

    The same signal again within a second is one with the first, for which its handler waits: who
    sends it to a whole group of processes reaches some twice, by what the others pass on.

    One that the process was started to ignore stays ignored. For the main thread only.

    Yields: a function that returns the signal that came, None while none has.
    """
    noted: list[signal.Signals] = []
    before = {
        number: signal.getsignal(number)
        for number in _SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(signal.Signals(number))
        for each in before:
            # Ends the process within a long computation too, where a handler has to wait.
            signal.signal(each, signal.SIG_IGN if each == number else signal.SIG_DFL)
        time.sleep(_ONE_WISH)
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: noted[0] if noted else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
