"""What a run prints: plain lines into a file, one live line on a terminal."""

import io

import pytest

from jaxformer.run.progress import Progress, Speed, duration

METRICS = {"loss": 2.5, "learning_rate": 1e-3, "source_tokens": 300.0, "target_tokens": 100.0}
ROW = {"step": 4, "loss": 2.25, "learning_rate": 5e-4, "padding": 0.125}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_plain_lines():
    stream = io.StringIO()
    with Progress(stream, 1_000) as progress:
        progress.say("Hello [bold]world[/bold].")
        for step in range(1, 5):
            progress.step(step, METRICS, 500, 0.5)
        progress.row(ROW)
        progress.row({**ROW, "step": 5, "valid_nll": 1.0, "valid_perplexity": 2.71828})
    assert stream.getvalue().splitlines() == [
        "Hello [bold]world[/bold].",
        "step 4/1,000  loss 2.2500  rate 5.00e-04  source 600/s  target 200/s  padding 12.5%  "
        "left 8:18",
        "step 5/1,000  loss 2.2500  rate 5.00e-04  source 600/s  target 200/s  padding 12.5%  "
        "left 8:18  valid nll 1.0000  perplexity 2.72",
    ]


def test_a_live_line_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream, 4) as progress:
        for step in range(1, 5):
            progress.step(step, METRICS, 500, 0.5)
        progress.row(ROW)
        progress.row({**ROW, "valid_nll": 1.0, "valid_perplexity": 2.71828})
        progress.say("Done.")
    text = stream.getvalue()
    assert "step 4/4  loss 2.5000  rate 1.00e-03  source 600/s  target 200/s  padding 20.0%" in text
    # Lines of metrics are in the live line already, except for validation.
    assert "loss 2.2500" not in text
    assert text.count("step 4  ") == 1
    assert "step 4  valid nll 1.0000  perplexity 2.72" in text
    assert "Done." in text
    assert "\x1b[" in text


def test_speed_leaves_compilation_out():
    speed = Speed()
    speed.add(30.0, 300, 100)
    for _ in range(4):
        speed.add(0.5, 300, 100)
    assert speed.rates() == pytest.approx((2.0, 600.0, 200.0))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3600, "1:00:00"), (90061, "1 d 01:01:01")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
