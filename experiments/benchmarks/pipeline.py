"""What a text of WMT's size asks of a machine before and beside its steps.

    python -m experiments.benchmarks.pipeline --folder=/tmp/pipeline --out=pipeline.json

writes 4.5 million pairs of made-up words, and does with them what `jaxformer train` does but for
the steps. Each stage is a process of its own, which reports its seconds (imports left out, and of
all its threads `cpu_seconds`) and the most memory that it has held:

    text        two files of lines are written; no part of the pipeline
    prepare     they become records
    vocabulary  word pieces are learnt
    cold        a first start: tokens are written, batches planned, the first of them is made
    warm        a later start, up to its first batch
    resume      going on from a late step, up to its first batch
    batches     the tokens a second of a running stream, both sides and without padding

The folder keeps the text; what has been made of it is removed at the beginning.
"""

import argparse
import itertools
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.benchmarks.made_up import write_text
from experiments.shared.processes import ROOT, run_alone
from experiments.shared.timing import peak_memory
from jaxformer.cli import build, groundwork
from jaxformer.cli import config as config_lib
from jaxformer.data.pipeline import train_batches
from jaxformer.io import environment
from jaxformer.run.preparation import learn_tokenizer

SIZES = {"pairs": 4_500_000, "vocab": 37_000, "tokens": 25_000, "step": 100_000, "batches": 2000}

Work = Callable[[argparse.Namespace], dict[str, Any]]


def main() -> int:
    """Runs all stages, or one of them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default {size}")
    parser.add_argument("--folder", type=Path, required=True, help="for text and what it becomes")
    parser.add_argument("--out", type=Path, help="file for the record, JSON")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.stage:
        begin, begin_cpu = time.perf_counter(), _cpu_seconds()
        found = STAGES[chosen.stage](chosen)
        found["seconds"] = time.perf_counter() - begin
        found["cpu_seconds"] = _cpu_seconds() - begin_cpu
        print(json.dumps({**found, "peak_bytes": peak_memory()}))
        return 0
    if not chosen.out:
        parser.error("a file for the record is needed: --out=pipeline.json")
    record = run_stages(chosen)
    chosen.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def run_stages(chosen: argparse.Namespace) -> dict[str, Any]:
    """Runs one stage after another, prints what they report, and returns the record."""
    shutil.rmtree(chosen.folder / "data", ignore_errors=True)
    arguments = [f"--{name}={getattr(chosen, name)}" for name in SIZES]
    arguments.append(f"--folder={chosen.folder.absolute()}")
    stages = {}
    for stage in STAGES:
        stages[stage] = run_alone(
            sys.executable,
            "experiments.benchmarks.pipeline",
            [*arguments, f"--stage={stage}"],
            allocator={},
        )
        print(f"{stage}: {json.dumps(stages[stage])}", flush=True)
    return {
        "sizes": {name: getattr(chosen, name) for name in SIZES},
        "stages": stages,
        "devices": environment.devices(),
        "versions": environment.versions(),
        "git": environment.package_source(),
    }


def text(chosen: argparse.Namespace) -> dict[str, Any]:
    """Writes the text, unless it is there."""
    folder = chosen.folder / f"text_{chosen.pairs}"
    if not folder.exists():
        folder.mkdir(parents=True)
        write_text(folder, chosen.pairs)
    return {"bytes": sum(path.stat().st_size for path in folder.iterdir())}


def prepare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Turns the lines into records."""
    return {"pairs": len(build.make_corpus(settings(chosen)).pairs("train"))}


def vocabulary(chosen: argparse.Namespace) -> dict[str, Any]:
    """Learns the word pieces."""
    config = settings(chosen)
    data = config["data"]
    tokenizer = learn_tokenizer(
        build.make_corpus(config),
        data["vocab_size"],
        data["vocab_type"],
        source=data["source"],
        target=data["target"],
        cache_dir=build.cache_dir(config),
    )
    tokenizer.save(workdir(chosen) / "tokenizer")
    return {"vocab_size": tokenizer.vocab_size}


def start(chosen: argparse.Namespace, step: int = 0, *, is_begun: bool = False) -> dict[str, Any]:
    """Prepares a training, and makes the batch of the step that comes after `step`."""
    folder = workdir(chosen)
    known = json.loads((folder / "meta.json").read_text("utf-8")) if is_begun else None
    tokenizer, data = groundwork.prepare(settings(chosen), {folder: known} if known else {})
    prepared = time.perf_counter()
    stream = train_batches(data.train, data.plan, 0, step)
    next(stream)
    found = {"first_batch_seconds": time.perf_counter() - prepared}
    (folder / "meta.json").write_text(
        json.dumps(groundwork.make_meta(tokenizer, data)), encoding="utf-8"
    )
    return {
        **found,
        "pairs": len(data.train),
        "left_out": data.left_out,
        "tokens": len(data.train.source.tokens) + len(data.train.target.tokens),
        "shapes": data.plan.shapes,
        "padding": data.plan.padding,
        "batches_per_epoch": data.plan.batches_per_epoch,
        "encoded_bytes": sum(
            path.stat().st_size for path in chosen.folder.glob("data/encoded/*/*.*")
        ),
    }


def warm(chosen: argparse.Namespace) -> dict[str, Any]:
    """Starts once more."""
    return start(chosen)


def resume(chosen: argparse.Namespace) -> dict[str, Any]:
    """Goes on from a late step."""
    return start(chosen, chosen.step, is_begun=True)


def batches(chosen: argparse.Namespace) -> dict[str, Any]:
    """Draws batches as a training does, with nothing between them."""
    _, data = groundwork.prepare(settings(chosen), {})
    stream = train_batches(data.train, data.plan, 0)
    next(stream)
    begin, begin_cpu = time.perf_counter(), _cpu_seconds()
    for _ in itertools.islice(stream, chosen.batches):
        pass
    seconds, cpu_seconds = time.perf_counter() - begin, _cpu_seconds() - begin_cpu
    tokens = len(data.train.source.tokens) + len(data.train.target.tokens)
    tokens *= chosen.batches / data.plan.batches_per_epoch
    begin = time.perf_counter()
    data.plan.epoch(0, 1)
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_cpu_second": tokens / cpu_seconds,
        "batches_per_second": chosen.batches / seconds,
        "epoch_seconds": time.perf_counter() - begin,
    }


def settings(chosen: argparse.Namespace) -> dict[str, Any]:
    """Returns a training's settings: the paper's batches, and its base model."""
    config = config_lib.load(str(ROOT / "configs" / "base.py")).to_dict()
    folder = chosen.folder / f"text_{chosen.pairs}"
    config["data"].update(
        corpus="plain_text",
        source="",
        target="",
        data_dir=str(chosen.folder / "data"),
        train_source=str(folder / "train.source"),
        train_target=str(folder / "train.target"),
        vocab_size=chosen.vocab,
        source_tokens=chosen.tokens,
        target_tokens=chosen.tokens,
    )
    return config


def workdir(chosen: argparse.Namespace) -> Path:
    """Returns where a run's vocabulary and what its checkpoints remember are kept."""
    return chosen.folder / "data" / "run"


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


STAGES: dict[str, Work] = {
    "text": text,
    "prepare": prepare,
    "vocabulary": vocabulary,
    "cold": start,
    "warm": warm,
    "resume": resume,
    "batches": batches,
}


if __name__ == "__main__":
    sys.exit(main())
