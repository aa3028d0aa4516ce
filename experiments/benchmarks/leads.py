"""What each trick of the training step and of the decoder is worth, its plain form in its place.

    python -m experiments.benchmarks.leads --out=leads.json [--only=dropout,loss] [--page=...]

Every figure comes from a process of its own that has the machine to itself. The two of a trick run
one right after the other, so that a machine whose speed changes is the same for both; every second
pass goes through them backwards. It prints a table, whose figures are the rate with the trick over
the rate without, and writes what all processes have reported. Give the machine nothing else to do
meanwhile.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.bench import describe, say
from experiments.benchmarks.end_to_end import help_seconds
from experiments.benchmarks.leads_table import LEADS, RATES, VARIANTS, table_of
from experiments.benchmarks.sizes import SIZES, write_batches
from experiments.shared.pages import write_page
from experiments.shared.processes import ROOT, allocators, run_alone
from jaxformer.cli.mistakes import Mistake, answered
from jaxformer.cli.options import whole_number
from jaxformer.data.batching import BatchPlan
from jaxformer.files import replace_file

_MODULE = "experiments.benchmarks.plain_forms"
# Of the counted text, about that of Multi30k, in batches of the paper's size.
_PAIRS, _BUDGET = 29_000, 25_000


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="leads", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--out", required=True, type=Path, help="file of the record, JSON")
    parser.add_argument("--only", default=",".join(LEADS), help=f"of {', '.join(LEADS)}")
    parser.add_argument("--passes", type=whole_number, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, default=5.0, help="timed a process (default 5)")
    parser.add_argument("--sizes", default="tiny,base", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--report", action="store_true", help="measure nothing, read the record")
    parser.add_argument("--page", type=Path, help="page whose table is made anew")
    chosen = parser.parse_args()
    for option, known in (("only", LEADS), ("sizes", SIZES)):
        names = list(dict.fromkeys(getattr(chosen, option).split(",")))
        setattr(chosen, option, names)
        for name in names:
            if name not in known:
                parser.error(f"--{option} has {name!r}; choose from {', '.join(known)}")
    if not chosen.out.absolute().parent.is_dir():
        parser.error(f"--out={chosen.out} is in no folder; make it")

    def work() -> None:
        if not chosen.report:
            measure(chosen.out, chosen.only, chosen.sizes, chosen.passes, chosen.seconds)
        text = table_of(read(chosen.out))
        if chosen.page:
            write_page(chosen.page, text)
        print(text)

    return answered("leads", work)


def read(path: Path) -> dict[str, Any]:
    """Returns a record.

    Raises: Mistake if there is none.
    """
    if not path.is_file():
        raise Mistake(f"{path} is no file: nothing was measured there. Leave --report out.")
    record = json.loads(path.read_text(encoding="utf-8"))
    known = {name for name, lead in LEADS.items() if lead.variants}
    if other := sorted(record.get("results", {}).keys() - known):
        raise Mistake(f"{path} measures {', '.join(other)}, which are no leads. Measure it anew.")
    return record


def measure(
    path: Path, leads: Sequence[str], sizes: Sequence[str], passes: int, seconds: float
) -> None:
    """Measures the leads and writes the record, anew after each pass."""
    allocator = list(allocators())[-1]
    record: dict[str, Any] = {
        "settings": {
            "leads": list(leads),
            "sizes": list(sizes),
            "passes": passes,
            "seconds": seconds,
            "allocator": allocator,
        },
        "load_before": os.getloadavg()[0],
        "environment": describe(),
        "results": {},
        "counted": {},
    }
    jobs = list(plan(leads, sizes))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            write_batches(folder / f"{size}.npy", SIZES[size])
        for number in range(passes):
            for lead, size in jobs if number % 2 == 0 else jobs[::-1]:
                found = {}
                for side in sides(lead, number):
                    variant = getattr(LEADS[lead], side)
                    found[side] = run(variant, size, folder, number, seconds, allocator)
                    rate = found[side][RATES[VARIANTS[variant].work]]
                    say(f"pass {number + 1}: {lead}, {variant}, {size}: {rate:,.1f} a second")
                record["results"].setdefault(lead, {}).setdefault(size, []).append(found)
            for figure, value in count(leads).items():
                record["counted"].setdefault(figure, []).append(value)
            record["seconds"] = time.monotonic() - start
            replace_file(path, json.dumps(record, indent=2) + "\n")


def plan(leads: Sequence[str], sizes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields (lead, size) of what a pass measures, each once, where its allocators are."""
    there = {None, *allocators()}
    for size in sizes:
        for name in leads:
            if not {VARIANTS[variant].allocator for variant in LEADS[name].variants} <= there:
                continue
            works = {VARIANTS[variant].work for variant in LEADS[name].variants}
            if "train" in works or (works and size == sizes[0]):
                yield name, size


def sides(lead: str, number: int) -> list[str]:
    """Returns "trick" and "plain" in the order of a pass: every second one backwards.

    With a cache of the pass's own the plain one comes first: it fills it for the trick.
    """
    fills = any(VARIANTS[variant].cache for variant in LEADS[lead].variants)
    return ["plain", "trick"] if fills or number % 2 else ["trick", "plain"]


def run(
    name: str, size: str, folder: Path, number: int, seconds: float, allocator: str
) -> dict[str, Any]:
    """Runs a process of a pass and returns what it reports.

    Args:
      folder: of the batches and the caches.
      number: of the pass, counted from 0.
      allocator: for a variant that names none.
    """
    variant = VARIANTS[name]
    cache = f"{variant.cache}_{size}_{number}" if variant.cache else "cache"
    return run_alone(
        sys.executable,
        _MODULE,
        [
            *(variant.form, variant.work, f"--size={size}", f"--batches={folder / size}.npy"),
            # The last of an option holds.
            *(f"--seconds={seconds}", *variant.arguments),
        ],
        allocator=allocators()[variant.allocator or allocator],
        environment={**variant.environment, "XDG_CACHE_HOME": str(folder / cache)},
    )


def count(leads: Sequence[str]) -> Mapping[str, float]:
    """Returns the figures of leads that are no variants of step or search, more being better."""
    found: dict[str, float] = {}
    if "imports" in leads:
        found["help"] = 1 / help_seconds(times=3)
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import jax"], cwd=ROOT, check=True)
        found["import jax"] = 1 / (time.perf_counter() - begin)
    if "shapes" in leads:
        found |= tokens_a_slot(*draw_lengths(_PAIRS), _BUDGET)
    return found


def draw_lengths(pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns lengths of source and target: log-normal, about 15 tokens, and going together."""
    generator = np.random.default_rng(0)
    source = generator.normal(2.6, 0.4, pairs)
    target = source + generator.normal(0.0, 0.2, pairs)
    source, target = (
        np.clip(np.exp(side).round(), 3, 60).astype(np.int64) for side in (source, target)
    )
    return source, target


def tokens_a_slot(source: np.ndarray, target: np.ndarray, budget: int) -> dict[str, float]:
    """Returns the share of slots that hold a token: of our plan, and of a plain one.

    The plain one gives each pair a row, whose sides are the next powers of two, and fills batches
    of one shape each up to the budget; what is left of a shape is a smaller batch.

    Args:
      source, target: tokens of each pair.
      budget: slots of a batch on either side.
    """
    plan = BatchPlan(source, target, source_tokens=budget, target_tokens=budget)
    slots = sum((2 ** np.ceil(np.log2(side))).sum() for side in (source, target))
    tokens = source.sum() + target.sum()
    return {"packed rows": 1 - plan.padding, "rows of a pair": float(tokens / slots)}


if __name__ == "__main__":
    sys.exit(main())
