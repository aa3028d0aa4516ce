"""A signal to one process as a wish that all of them obey at the same step."""

import signal
import threading
from collections.abc import Callable

from jaxformer.io.hosts import Channel

_WISH, _BEGUN = "stop/signal", "steps_at_stop"


class Stop:
    """The end that a signal asks for.

    With several processes it comes after the first step that none of them has begun, for a step
    needs them all. Each counts its steps, and all begin with the same one.
    """

    def __init__(self, noted_signal: Callable[[], signal.Signals | None], channel: Channel) -> None:
        """Begins to listen to what the others wish.

        Args:
          noted_signal: of this process, see `noted_signals`.
        """
        self._noted_signal, self._channel = noted_signal, channel
        self._lock = threading.Lock()
        self._steps, self._last = 0, 0
        self._obeyed: signal.Signals | None = None
        if channel.num_processes > 1:
            threading.Thread(target=self._agree, name="stop", daemon=True).start()

    def is_due(self) -> bool:
        """Returns whether the step just taken is the last; to be asked after every step."""
        number = self._noted_signal()
        if self._channel.num_processes == 1:
            self._obeyed = number
            return number is not None
        if number is not None:
            self._channel.write(_WISH, int(number))
        # While the processes agree on a step, none begins another.
        with self._lock:
            self._steps += 1
            return self._obeyed is not None and self._steps >= self._last

    def obeyed(self) -> signal.Signals | None:
        """Returns the signal that is obeyed, which another process may have got; None without."""
        return self._obeyed

    def _agree(self) -> None:
        """Waits for a wish, and finds the step that all can stop at.

        A process that has taken all its steps answers, too, as long as it lives.
        """
        wish = self._channel.wait_for(_WISH)
        with self._lock:
            self._channel.write(f"{_BEGUN}/{self._channel.process_id}", self._steps)
            everybody = range(self._channel.num_processes)
            begun = [self._channel.wait_for(f"{_BEGUN}/{number}") for number in everybody]
            self._last, self._obeyed = max(begun) + 1, signal.Signals(wish)
