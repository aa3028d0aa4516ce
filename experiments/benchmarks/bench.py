"""How fast jaxformer trains and decodes beside its peers, in one run: `make bench`.

    python -m experiments.benchmarks.bench --peers=.venv-peers/bin/python --output=bench.json

Every figure comes from a process of its own that has the machine to itself; the processes of a pass
take turns, and every second pass goes through them backwards. All sides have the same batches and
the same allocator. docs/speed.md says what is measured, and what is in the record.

With BENCH_QUICK=1, or --quick, it ends within ten minutes: one allocator, fewer steps, as many
passes as there is time for, and neither Marian nor the whole command. The last line is one JSON
object.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks.end_to_end import end_to_end, help_seconds, write_corpus
from experiments.benchmarks.figures import summarise
from experiments.benchmarks.sizes import SIZES, write_batches
from experiments.benchmarks.summary import best
from experiments.shared.processes import allocators, run_alone

_QUICK_SECONDS = 540
# A load average above this is that of a machine on which something else runs.
_QUIET = 0.5
# Those of the timed decoders, alpha 0.
BEAMS = 4
OURS_MODULE, TORCH_MODULE, CTRANSLATE2_MODULE = (
    f"experiments.benchmarks.{name}" for name in ("ours", "peer_torch", "peer_ctranslate2")
)
# Variants of the training step: name -> (module, arguments). A name ends in the type of the
# products.
OURS = {
    "jaxformer float32": (OURS_MODULE, ("train", "--dtype=float32")),
    "jaxformer products float32": (OURS_MODULE, ("train", "--product_dtype=float32")),
    "jaxformer products bfloat16": (OURS_MODULE, ("train", "--product_dtype=bfloat16")),
    "jaxformer bfloat16": (OURS_MODULE, ("train", "--dtype=bfloat16")),
}
PYTORCH, MARIAN = (
    {
        f"{name} {dtype}": (TORCH_MODULE, (what, f"--dtype={dtype}"))
        for dtype in ("float32", "bfloat16")
    }
    for name, what in (("PyTorch", "transformer"), ("Marian", "marian"))
)
PEERS = {**PYTORCH, **MARIAN}


class Job(NamedTuple):
    """One process of a pass.

    Attributes:
      group: what it is compared within, such as "train tiny jemalloc".
      name: of the variant.
    """

    group: str
    name: str
    python: str
    module: str
    arguments: tuple[str, ...]
    allocator: str


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--peers", help="python of the peers' environment; without it, none")
    parser.add_argument("--output", required=True, help="file for the record, JSON")
    parser.add_argument("--passes", type=int, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, help="of timed steps a process")
    parser.add_argument("--sizes", default="tiny,base", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--allocators", help=f"of {', '.join(allocators())}")
    parser.add_argument("--quick", action="store_true", help="within ten minutes")
    chosen = check(parser, parser.parse_args())
    record = measure(chosen)
    record["summary"], line = summarise(record["results"], record["ceiling"], chosen.sizes)
    line["padding"] = record["padding"].get("padding")
    record["line"] = line
    Path(chosen.output).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {chosen.output}")
    print(json.dumps(line))
    return 0


def check(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults; ends the program, with one sentence, where something is wrong."""
    chosen.quick = chosen.quick or os.environ.get("BENCH_QUICK", "0") not in ("", "0")
    found = allocators()
    fast = list(found)[-1]
    default = fast if chosen.quick else f"glibc,{fast}"
    chosen.allocators = (chosen.allocators or default).split(",")
    chosen.sizes = chosen.sizes.split(",")
    chosen.seconds = chosen.seconds or (5.0 if chosen.quick else 15.0)
    for option, known in (("allocators", found), ("sizes", SIZES)):
        for name in getattr(chosen, option):
            if name not in known:
                parser.error(f"--{option} has {name!r}; choose from {', '.join(known)}")
    if chosen.passes < 1:
        parser.error(f"--passes={chosen.passes} measures nothing; give 1 or more")
    if chosen.peers:
        if not Path(chosen.peers).is_file():
            parser.error(f"--peers={chosen.peers} is no file; `make bench` makes that environment")
        chosen.peers = os.path.abspath(chosen.peers)
    if not Path(chosen.output).absolute().parent.is_dir():
        parser.error(f"--output={chosen.output} is in no folder; make it")
    return chosen


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Runs all processes; returns what they report."""
    start, load = time.monotonic(), os.getloadavg()[0]
    if load > _QUIET:
        say(f"The machine is busy (load {load:.1f}): the figures will be those of a busy machine.")
    results: dict[str, dict[str, list[Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = partial(run_alone, environment={"XDG_CACHE_HOME": str(folder / "cache")})
        alone = partial(run, allocator=allocators()[chosen.allocators[-1]])
        for size in chosen.sizes:
            write_batches(folder / f"{size}.npy", SIZES[size])
        ceiling = {"jaxformer": alone(sys.executable, OURS_MODULE, ["ceiling"])}
        if chosen.peers:
            ceiling["PyTorch"] = alone(chosen.peers, TORCH_MODULE, ["ceiling"])
            export = ["export", f"--size={chosen.sizes[0]}", f"--output={folder / 'exported'}"]
            alone(sys.executable, OURS_MODULE, export)
        jobs = list(plan(chosen, folder))
        for number in range(chosen.passes):
            begin = time.monotonic()
            for job in jobs if number % 2 == 0 else reversed(jobs):
                allocator = allocators()[job.allocator]
                found = run(job.python, job.module, job.arguments, allocator=allocator)
                results.setdefault(job.group, {}).setdefault(job.name, []).append(found)
                rate = found.get("tokens_per_second") or found["sentences_per_second"]
                say(f"pass {number + 1}: {job.group}: {job.name}: {rate:,.1f} a second")
            if not chosen.quick:
                found = whole_command(chosen, folder, number, alone.keywords)
                results.setdefault("end to end", {}).setdefault("jaxformer", []).append(found)
                say(f"pass {number + 1}: end to end: {found['share']:.3f} of the bare step")
            now = time.monotonic()
            # Another pass takes as long as this one.
            if chosen.quick and now - start + (now - begin) > _QUICK_SECONDS:
                break
        start_again(jobs, results, run)
        padding = alone(sys.executable, OURS_MODULE, ["padding"])
        is_compared = chosen.peers and not chosen.quick
        same = {
            name: same_outputs(chosen, folder, alone, beams) if is_compared else None
            for name, beams in {"greedy": 1, "beam": BEAMS}.items()
        }
    return {
        "settings": {
            name: getattr(chosen, name)
            for name in ("passes", "seconds", "sizes", "allocators", "quick")
        },
        "seconds": time.monotonic() - start,
        "load_before": load,
        "environment": describe(),
        "ceiling": ceiling,
        "padding": padding,
        "help_seconds": help_seconds(),
        **{f"same_{name}_outputs": share for name, share in same.items()},
        "results": results,
    }


def plan(chosen: argparse.Namespace, folder: Path) -> Iterator[Job]:
    """Yields the processes of a pass."""
    first, fast = chosen.sizes[0], chosen.allocators[-1]
    for allocator in chosen.allocators:
        for size in chosen.sizes:
            # Marian is left out where time is short.
            peers = PEERS if size == first and not chosen.quick else PYTORCH
            for variants, python in ((OURS, sys.executable), (peers, chosen.peers)):
                for name, (module, arguments) in variants.items() if python else ():
                    given = (*arguments, *options(chosen, folder, size))
                    yield Job(f"train {size} {allocator}", name, python, module, given, allocator)
    for name, python, module, arguments in decoders(chosen, folder):
        yield Job(f"decode {first} {fast}", name, python, module, arguments, fast)


def start_again(
    jobs: Sequence[Job], results: Mapping[str, Any], run: Callable[..., dict[str, Any]]
) -> None:
    """Starts our fastest variants of tiny once more where one pass has seen only cold starts.

    What the first step then takes, `first_step_again_seconds`, is put into the pass's report.
    """
    for group in [group for group in results if group.startswith("train tiny ")]:
        ours = {job.name: job for job in jobs if job.group == group and job.name in OURS}
        variants = results[group]
        name = best({name: [each["tokens_per_second"] for each in variants[name]] for name in ours})
        if name is None or len(variants[name]) > 1:
            continue
        job = ours[name]
        # No more steps than must be: the last of two options counts.
        arguments = (*job.arguments, "--seconds=0.1")
        found = run(job.python, job.module, arguments, allocator=allocators()[job.allocator])
        variants[name][0]["first_step_again_seconds"] = found["first_step_seconds"]


def options(chosen: argparse.Namespace, folder: Path, size: str) -> tuple[str, ...]:
    """Returns the arguments that all timed processes have."""
    batches = folder / f"{size}.npy"
    return f"--size={size}", f"--batches={batches}", f"--seconds={chosen.seconds}"


def decoders(
    chosen: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Yields (name, python, module, arguments) of the decoders."""
    given = options(chosen, folder, chosen.sizes[0])
    yield "jaxformer float32", sys.executable, OURS_MODULE, ("decode", *given)
    # One worker with all cores, or one a core: which is faster depends on the model.
    for workers in sorted({1, os.cpu_count() or 1}) if chosen.peers else ():
        arguments = (*given, f"--model={folder / 'exported'}", f"--workers={workers}")
        name = f"CTranslate2 float32, workers: {workers}"
        yield name, chosen.peers, CTRANSLATE2_MODULE, arguments


def whole_command(
    chosen: argparse.Namespace, folder: Path, number: int, places: Mapping[str, Any]
) -> dict[str, Any]:
    """Measures the command against its bare step, with the first of the sizes."""
    size = chosen.sizes[0]
    if number == 0:
        write_corpus(folder, SIZES[size])
    return end_to_end(folder, folder / f"run{number}", size=size, steps=80, warm_up=20, **places)


def same_outputs(
    chosen: argparse.Namespace, folder: Path, alone: Callable[..., dict[str, Any]], beams: int
) -> float:
    """Returns the share of sentences that both decoders give the same outputs with so many beams.

    Where an output meets the limit, its last token is EOS for ours and any for theirs: it does not
    count. With several beams it still counts in the scores, and may decide which is the best.
    """
    outputs = []
    for number, (_, python, module, arguments) in enumerate(list(decoders(chosen, folder))[:2]):
        path = folder / f"{number}.json"
        alone(python, module, [*arguments, f"--beams={beams}", f"--output={path}"])
        outputs.append(json.loads(path.read_text(encoding="utf-8")))
    same = [
        ours[: ours.index("</s>")] == theirs[: len(ours) - 1]
        for ours, theirs in zip(*outputs, strict=True)
    ]
    return sum(same) / len(same)


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


def describe() -> dict[str, Any]:
    """Returns versions and commit of our side, and the machine."""
    from jaxformer.io import environment

    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    models = re.findall(r"^model name\s*: (.*)", text, re.MULTILINE)
    return {
        "versions": environment.versions(),
        "devices": environment.devices(),
        "processors": sorted(set(models)),
        "git": environment.package_source(),
    }


if __name__ == "__main__":
    sys.exit(main())
