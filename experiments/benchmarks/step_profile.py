"""Where the time of a training step goes on this host's processors, by XLA's own trace.

    python -m experiments.benchmarks.step_profile --size=base --out=step_profile.json

The step is the benchmark's (`ours.make_step`). Some are taken as they are, then some under
jax.profiler; the trace has the start and the end of every operation of the program. They are summed
up by part and kind, and matrix products by their form, against the fastest product that this
process has found and against the same product alone. docs/speed.md says how to read the tables.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmarks.attribution import Event, Label, Product, Sum, sum_up
from experiments.benchmarks.ours import DTYPES, make_step, product_rates
from experiments.benchmarks.sizes import SIZES, draw_batches, read_batches
from experiments.shared.timing import fastest
from jaxformer.io.environment import allocator, versions
from jaxformer.run.compilation import enable_cache
from jaxformer.run.hlo import parse

# As the program's text names them -> as arrays do.
_DTYPES = {"f32": "float32", "bf16": "bfloat16"}
_WARM_UP = 2


def main() -> int:
    """Profiles a step, prints the tables, and writes the record; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--size", choices=sorted(SIZES), default="base")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="model.dtype")
    parser.add_argument("--product_dtype", choices=DTYPES, help="model.product_dtype")
    parser.add_argument(
        "--batches", help="file that sizes.write_batches wrote; else some are drawn"
    )
    parser.add_argument("--steps", type=int, default=5, help="under the profiler, default 5")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each product alone")
    parser.add_argument("--out", required=True, help="file for the record, JSON")
    chosen = parser.parse_args()
    if chosen.steps < 1:
        parser.error(f"--steps={chosen.steps} profiles nothing; give 1 or more")
    enable_cache()
    record = profile(chosen)
    Path(chosen.out).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print("\n".join(tables(record)))
    return 0


def profile(chosen: argparse.Namespace) -> dict[str, Any]:
    """Returns the record of a step."""
    size = SIZES[chosen.size]
    batches = read_batches(chosen.batches) if chosen.batches else list(draw_batches(size))
    batch = dict(zip(("source_BS", "target_BT"), batches[0], strict=True))
    state, step = make_step(size, chosen.dtype, chosen.product_dtype)
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    text = compiled.as_text() or ""

    def take() -> float:
        nonlocal state
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batch))
        return time.perf_counter() - begin

    for _ in range(_WARM_UP):
        take()
    untraced = [take() for _ in range(chosen.steps)]
    with tempfile.TemporaryDirectory() as folder:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        with jax.profiler.trace(folder, profiler_options=options):
            traced = [take() for _ in range(chosen.steps)]
        steps = read_events(Path(folder), text.split(",", 1)[0].removeprefix("HloModule "))
    sums = sum_up(parse(text), steps)
    forms = {label.product: label.flops for label in sums if label.product}
    rates = {
        dtype: max(product_rates(dtype, chosen.seconds).values())
        for dtype in {_DTYPES[form.left.dtype] for form in forms}
    }
    alone = {form: flops / time_alone(form, chosen.seconds) for form, flops in forms.items()}
    for form, rate in alone.items():
        dtype = _DTYPES[form.left.dtype]
        rates[dtype] = max(rates[dtype], rate)
    return {
        "settings": {
            name: getattr(chosen, name)
            for name in ("size", "dtype", "product_dtype", "steps", "seconds")
        },
        "versions": versions(("jax", "jaxlib")),
        "allocator": allocator(),
        "load_after": os.getloadavg()[0],
        "untraced_seconds": statistics.mean(untraced),
        **account(sums, statistics.mean(traced), rates, alone),
    }


def read_events(folder: Path, module: str) -> list[list[Event]]:
    """Returns the events of each run of a program, from a trace.

    An operation begins where a thread takes it up, and is done where XLA says so, which may be on
    another thread: it may have handed its work to several.
    """
    begun: dict[int, tuple[int, str, float, float]] = {}
    done: dict[int, float] = {}
    (path,) = folder.glob("**/*.xplane.pb")
    with warnings.catch_warnings():
        # The reader's own types lack an attribute, of which newer Pythons warn.
        warnings.simplefilter("ignore", DeprecationWarning)
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for event in (event for line in plane.lines for event in line.events):
                facts = dict(event.stats)
                if facts.get("hlo_module") == module:
                    start, end = event.start_ns, event.start_ns + event.duration_ns
                    begun[facts["_p"]] = facts["run_id"], facts["hlo_op"], start, end
                elif event.name.startswith("end: "):
                    done[facts["_c"]] = event.start_ns
    runs: dict[int, list[Event]] = defaultdict(list)
    for key, (run, name, start, end) in begun.items():
        runs[run].append(Event(name, start / 1e9, max(start, done.get(key, end)) / 1e9))
    return list(runs.values())


def time_alone(form: Product, seconds: float) -> float:
    """Returns the seconds of the fastest of many runs of a product with nothing beside it."""
    left, right = (
        jnp.ones(array.dimensions, _DTYPES[array.dtype]) for array in (form.left, form.right)
    )
    axes = (form.contracted, form.batched)
    multiply = jax.jit(
        lambda left, right: jax.lax.dot_general(
            left, right, axes, preferred_element_type=jnp.float32
        )
    )
    return fastest(lambda: multiply(left, right).block_until_ready(), seconds)


def account(
    sums: Mapping[Label, Sum],
    seconds: float,
    ceiling: Mapping[str, float],
    alone: Mapping[Product, float],
) -> dict[str, Any]:
    """Returns the figures of a step.

    Args:
      sums: a step's.
      seconds: of a step, by the clock.
      ceiling: dtype -> operations a second of the fastest product.
      alone: operations a second of each product with nothing beside it.
    """
    parts: dict[tuple[str, str], Sum] = defaultdict(Sum)
    products: dict[Product, Sum] = defaultdict(Sum)
    for label, found in sums.items():
        parts[label.part, label.kind].add(found)
        if label.product:
            products[label.product].add(found)

    def row(found: Sum) -> dict[str, float | None]:
        rate = found.flops / found.seconds if found.flops else None
        return {**vars(found), "share": found.seconds / seconds, "flops_per_second": rate}

    busy = sum(found.seconds for found in sums.values())
    multiplying = sum(found.seconds for found in products.values())
    at_ceiling = sum(
        found.flops / ceiling[_DTYPES[form.left.dtype]] for form, found in products.items()
    )
    at_their_own = sum(found.flops / alone[form] for form, found in products.items())
    return {
        "seconds": seconds,
        "gaps": seconds - busy,
        "ceiling": dict(ceiling),
        "products": {
            "seconds": multiplying,
            "seconds_alone": at_their_own,
            "seconds_at_ceiling": at_ceiling,
            # How many times as fast the step would be ...
            "gain_if_all_else_cost_nothing": seconds / multiplying,
            "gain_if_products_were_as_alone": seconds / (seconds - multiplying + at_their_own),
            "gain_if_products_met_ceiling": seconds / (seconds - multiplying + at_ceiling),
        },
        "parts": [
            {"part": part, "kind": kind, **row(found)}
            for (part, kind), found in sorted(parts.items(), key=_slowest)
        ],
        "forms": [
            {
                "form": str(form),
                **row(found),
                "flops_per_second_alone": alone[form],
                "of_ceiling": found.flops / found.seconds / ceiling[_DTYPES[form.left.dtype]],
            }
            for form, found in sorted(products.items(), key=_slowest)
        ],
    }


def _slowest(item: tuple[Any, Sum]) -> float:
    return -item[1].seconds


def tables(record: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of the record, Markdown."""
    total, products = record["seconds"], record["products"]

    def line(row: Mapping[str, Any], *names: str) -> str:
        cells = [*names, f"{1e3 * row['seconds']:.1f}", f"{row['share']:.1%}", f"{row['runs']:.0f}"]
        rate = row["flops_per_second"]
        return f"| {' | '.join([*cells, f'{rate / 1e9:.0f}' if rate else ''])} |"

    yield (
        f"A step takes {1e3 * total:.1f} ms under the profiler, "
        f"{1e3 * record['untraced_seconds']:.1f} ms without."
    )
    yield (
        f"Matrix products: {products['seconds'] / total:.1%} of it. They would take "
        f"{products['seconds_alone'] / total:.1%} at the rate of each alone, and "
        f"{products['seconds_at_ceiling'] / total:.1%} at that of the fastest."
    )
    yield (
        f"If all else cost nothing, the step would be "
        f"{products['gain_if_all_else_cost_nothing']:.2f} times as fast; if products met the "
        f"ceiling, {products['gain_if_products_met_ceiling']:.2f} times."
    )
    for dtype, rate in record["ceiling"].items():
        yield f"Fastest product, {dtype}: {rate / 1e9:.0f} GFLOP/s."
    yield ""
    yield "| part | kind | ms | share | runs | GFLOP/s |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in record["parts"]:
        yield line(row, row["part"], row["kind"])
    gaps = record["gaps"]
    yield f"| between operations | | {1e3 * gaps:.1f} | {gaps / total:.1%} | | |"
    yield ""
    yield "| product | ms | share | runs | GFLOP/s | alone | of the fastest |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in record["forms"]:
        alone = f" {row['flops_per_second_alone'] / 1e9:.0f} | {row['of_ceiling']:.0%} |"
        yield line(row, row["form"]) + alone


if __name__ == "__main__":
    sys.exit(main())
