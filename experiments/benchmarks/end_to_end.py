"""`jaxformer train` against its bare step: what data, logging and saving cost."""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.sizes import SIZES, Size
from experiments.shared.processes import ROOT, clean_environment, run_alone

_PAIRS = 12_000
_WORDS = 11_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_corpus(folder: Path, size: Size) -> None:
    """Writes `train.source` and `train.target`: lines of made-up words, as long as captions."""
    generator = random.Random(0)
    words = ["".join(generator.choices(_LETTERS, k=6)) for _ in range(_WORDS)]
    most = size.length - 2
    for side in ("source", "target"):
        lines = (
            " ".join(generator.choices(words, k=generator.randint(most // 2, most)))
            for _ in range(_PAIRS)
        )
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"train.{side}").write_text(text, encoding="utf-8")


def settings(corpus: Path, size: Size, *, steps: int, warm_up: int) -> list[str]:
    """Returns the arguments of the training, but for its workdir."""
    values = {
        "model.d_model": size.d_model,
        "model.d_ff": size.d_ff,
        "model.num_heads": size.num_heads,
        "model.num_encoder_layers": size.layers,
        "model.num_decoder_layers": size.layers,
        "data.train_source": corpus / "train.source",
        "data.train_target": corpus / "train.target",
        "data.vocab_size": size.vocab_size,
        "data.source_tokens": size.tokens,
        "data.target_tokens": size.tokens,
        "train.dropout_rate": size.dropout_rate,
        "train.num_steps": warm_up + steps,
        "train.log_every": max(1, warm_up // 2),
        "train.eval_every": 0,
        "train.checkpoint_every": warm_up,
    }
    config = ROOT / "configs" / "plain_text.py"
    return [f"--config={config}", *(f"--config.{key}={value}" for key, value in values.items())]


def end_to_end(
    corpus: Path,
    workdir: Path,
    *,
    size: str,
    steps: int,
    warm_up: int,
    allocator: Mapping[str, str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Trains through the command, then takes the same steps without it.

    The command is timed from its line of the step `warm_up`, which is saved, to its end; so all
    later lines, checkpoints (one every `warm_up` steps) and the last one count.

    Returns: `seconds` of `steps` steps by the command, `bare_seconds`, and `share`, the second over
      the first.
    """
    command = [sys.executable, "-m", "jaxformer", "train", f"--workdir={workdir}"]
    command += settings(corpus, SIZES[size], steps=steps, warm_up=warm_up)
    seen: list[tuple[float, str]] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**clean_environment(), **allocator, **environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        seen.extend((time.perf_counter(), line) for line in process.stdout or ())
    if process.returncode:
        said = "".join(line for _, line in seen[-5:])
        raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}:\n{said}")
    seconds = seconds_after(seen, warm_up)
    bare = run_alone(
        sys.executable,
        "experiments.benchmarks.ours",
        ["bare", f"--workdir={workdir}", f"--first={warm_up + 1}"],
        allocator=allocator,
        environment=environment,
    )
    return {
        "seconds": seconds,
        "bare_seconds": bare["seconds"],
        "share": bare["seconds"] / seconds,
    }


def seconds_after(seen: Sequence[tuple[float, str]], step: int) -> float:
    """Returns the seconds from the line of metrics of a step to the last word of a training.

    Args:
      seen: when each line was printed, and the line.

    Raises: RuntimeError if there is no such line.
    """
    marks = [now for now, line in seen if line.startswith(f"step {step:,}/")]
    ends = [now for now, line in seen if line.startswith("Trained to step")]
    if not marks or not ends:
        said = "".join(line for _, line in seen[-5:])
        raise RuntimeError(f"jaxformer train has not said when it was at step {step}:\n{said}")
    return ends[0] - marks[0]


def help_seconds(times: int = 5) -> float:
    """Returns how long `jaxformer --help` takes: the median of some."""
    script = Path(sys.executable).with_name("jaxformer")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "jaxformer"]
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, check=True)
        found.append(time.perf_counter() - begin)
    return statistics.median(found)
