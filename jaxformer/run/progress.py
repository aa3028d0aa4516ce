"""What a run says while it goes on: one live line on a terminal, plain lines elsewhere."""

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

_SECONDS_BETWEEN_UPDATES = 0.1
_STEPS_OF_SPEED = 50


class Speed:
    """Tokens and steps a second, over the last steps."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, float, float]] = deque(maxlen=_STEPS_OF_SPEED)

    def add(self, seconds: float, source_tokens: float, target_tokens: float) -> None:
        """Adds a step."""
        self._steps.append((seconds, source_tokens, target_tokens))

    def rates(self) -> tuple[float, float, float]:
        """Returns (steps, source tokens, target tokens) a second.

        A step that took ten times as long as most has compiled its program, and does not count.
        """
        typical = statistics.median_low(seconds for seconds, _, _ in self._steps)
        steps = [step for step in self._steps if step[0] <= 10 * typical]
        seconds, source, target = (sum(column) for column in zip(*steps, strict=True))
        seconds = max(seconds, 1e-9)
        return len(steps) / seconds, source / seconds, target / seconds


class Progress:
    """Prints lines to a stream and, if that is a terminal, keeps a live one below them."""

    def __init__(self, stream: TextIO, num_steps: int) -> None:
        """Makes a progress report towards `num_steps`."""
        self._stream, self._num_steps = stream, num_steps
        self._speed = Speed()
        self._next_update = 0.0
        self._stack = contextlib.ExitStack()
        self._live: Any = None
        self._console: Any = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            # Imported late: plain lines do without.
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
            self._live = self._stack.enter_context(
                Live(console=self._console, auto_refresh=False, redirect_stderr=False)
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._console is not None:
            self._console.print(text, soft_wrap=True)
        else:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def wait(self, text: str) -> None:
        """Says in the live line, if there is one, what is waited for."""
        if self._live is not None:
            self._live.update(text, refresh=True)

    def step(self, step: int, metrics: Mapping[str, Any], slots: int, seconds: float) -> None:
        """Takes note of a step, and brings the live line up to date."""
        source, target = float(metrics["source_tokens"]), float(metrics["target_tokens"])
        self._speed.add(seconds, source, target)
        now = time.monotonic()
        if self._live is None or (now < self._next_update and step < self._num_steps):
            return
        self._next_update = now + _SECONDS_BETWEEN_UPDATES
        padding = 1.0 - (source + target) / max(slots, 1)
        line = self._line(step, float(metrics["loss"]), float(metrics["learning_rate"]), padding)
        self._live.update(line, refresh=True)

    def row(self, row: Mapping[str, Any]) -> None:
        """Takes note of a line of metrics: prints it, or only what the live line does not show."""
        valid = ""
        if "valid_perplexity" in row:
            valid = f"valid nll {row['valid_nll']:.4f}  perplexity {row['valid_perplexity']:.2f}"
        if self._live is not None:
            if valid:
                self.say(f"step {row['step']:,}  {valid}")
            return
        line = self._line(row["step"], row["loss"], row["learning_rate"], row["padding"])
        self.say(f"{line}  {valid}".rstrip())

    def _line(self, step: int, loss: float, learning_rate: float, padding: float) -> str:
        steps, source, target = self._speed.rates()
        return (
            f"step {step:,}/{self._num_steps:,}  loss {loss:.4f}  rate {learning_rate:.2e}  "
            f"source {source:,.0f}/s  target {target:,.0f}/s  padding {padding:.1%}  "
            f"left {duration((self._num_steps - step) / max(steps, 1e-9))}"
        )


def duration(seconds: float) -> str:
    """Returns "2:05" for 125 seconds, "1:00:00" for an hour, "3 d 04:00:00" for days."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02d}:{minute:02d}:{second:02d}"
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
