"""Whether two trainings at once do more than one after another, and on cores of their own yet more.

    python -m experiments.benchmarks.jobs --out=jobs.json [--size=tiny] [--passes=5]

One training on all cores (`one`), two at once that share them (`shared`), as `sweep --jobs=2` runs
members, and two at once that are kept to half of them each (`apart`). Each timed training is a
process; a figure is the sum of the target tokens a second of those that run at once, which start
together and are timed for equally long, so that all but the ends of their times is one and the
same. Passes go through the three in turn, every second one backwards. Give the machine nothing else
to do meanwhile.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from experiments.benchmarks.bench import describe, say
from experiments.benchmarks.sizes import SIZES, write_batches
from experiments.benchmarks.summary import ratios, spread
from experiments.shared.processes import allocators, run_alone
from jaxformer.cli.mistakes import Mistake, answered
from jaxformer.cli.options import whole_number
from jaxformer.files import replace_file


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="jobs", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--out", required=True, type=Path, help="file of the record, JSON")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny", help="default tiny")
    parser.add_argument("--product_dtype", choices=("float32", "bfloat16"), help="of the model")
    parser.add_argument("--passes", type=whole_number, default=5, help="default 5")
    parser.add_argument("--seconds", type=float, default=10.0, help="timed a process (default 10)")
    chosen = parser.parse_args()
    if not chosen.out.absolute().parent.is_dir():
        parser.error(f"--out={chosen.out} is in no folder; make it")
    return answered("jobs", lambda: measure(chosen))


def measure(chosen: argparse.Namespace) -> None:
    """Measures, prints the figures and writes the record.

    Raises: Mistake if there are no two cores to choose from.
    """
    ways = make_ways()
    allocator, variables = list(allocators().items())[-1]
    record: dict[str, Any] = {
        "settings": {
            name: getattr(chosen, name) for name in ("size", "product_dtype", "passes", "seconds")
        }
        | {"allocator": allocator, "cores": {way: [*map(sorted, ways[way])] for way in ways}},
        "load_before": os.getloadavg()[0],
        "environment": describe(),
        "results": {name: [] for name in ways},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_batches(folder / "batches.npy", SIZES[chosen.size])
        # So that all that is timed finds its programs compiled.
        for places in ways.values():
            train(places, chosen, folder, variables, seconds=0.1)
        for number in range(chosen.passes):
            for way in list(ways) if number % 2 == 0 else list(ways)[::-1]:
                found = train(ways[way], chosen, folder, variables, seconds=chosen.seconds)
                record["results"][way].append(found)
                say(f"pass {number + 1}: {way}: {_sum(found):,.0f} tokens a second")
            rates = {way: [*map(_sum, passes)] for way, passes in record["results"].items()}
            record["tokens_per_second"] = {way: spread(found) for way, found in rates.items()}
            record["ratios_to_one"] = {
                way: ratios(rates[way], rates["one"]) for way in rates if way != "one"
            }
            replace_file(chosen.out, json.dumps(record, indent=2) + "\n")
    print(json.dumps({name: record[name] for name in ("tokens_per_second", "ratios_to_one")}))


def make_ways() -> dict[str, list[frozenset[int]]]:
    """Returns way -> the cores that each process which runs at once is kept to; empty for any.

    Raises: Mistake if there are no two cores for two processes, or the system does not say.
    """
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    half = len(cores) // 2
    if not half:
        raise Mistake("Two trainings need a core each, and a system that gives them one: Linux.")
    anywhere: frozenset[int] = frozenset()
    apart = [frozenset(cores[:half]), frozenset(cores[half : 2 * half])]
    return {"one": [anywhere], "shared": [anywhere] * 2, "apart": apart}


@contextlib.contextmanager
def keep_to(cores: frozenset[int]) -> Generator[None]:
    """What the calling thread starts in this context stays on these cores; on any if empty."""
    if sys.platform != "linux" or not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def train(
    places: Sequence[frozenset[int]],
    chosen: argparse.Namespace,
    folder: Path,
    allocator: Mapping[str, str],
    *,
    seconds: float,
) -> list[dict[str, Any]]:
    """Runs trainings at once, one on each of `places`; returns what each reports."""
    arguments = ["train", f"--size={chosen.size}", f"--batches={folder / 'batches.npy'}"]
    if chosen.product_dtype:
        arguments.append(f"--product_dtype={chosen.product_dtype}")

    def run(place: frozenset[int]) -> dict[str, Any]:
        with keep_to(place):
            return run_alone(
                sys.executable,
                "experiments.benchmarks.ours",
                [*arguments, f"--seconds={seconds}"],
                allocator=allocator,
                environment={"XDG_CACHE_HOME": str(folder / "cache")},
            )

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(run, places))


def _sum(found: Sequence[dict[str, Any]]) -> float:
    return sum(each["tokens_per_second"] for each in found)


if __name__ == "__main__":
    sys.exit(main())
