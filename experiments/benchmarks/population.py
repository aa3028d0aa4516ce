"""How fast trainings go together in one program, beside the same ones one after another.

    python experiments/benchmarks/population.py --out=population.json

Each figure comes from a process of its own that has the machine to itself: one that trains all
members together, then one after another for each of the members alone, or the other way round in
every second pass. The work is the same: so many members, steps, and batches of random words. The
programs are compiled into a cache that is empty when a pass begins, and that all processes of a
pass share, so that of those alone only the first compiles.

A member is a training of `--steps` steps. Members a second are given twice: of the steps alone,
once all programs are there, and of the whole processes, from start to end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxformer.data.batching import BatchPlan
from jaxformer.data.encoded import Encoded, Sentences
from jaxformer.data.pipeline import train_batches
from jaxformer.io import environment
from jaxformer.model import EOS, Transformer
from jaxformer.optim import noam_rate, scale_by_paper_adam
from jaxformer.population import make_mesh, make_population_step, num_rows, stack
from jaxformer.run.allocator import keep_freed_memory
from jaxformer.run.restoring import count_parameters
from jaxformer.train import Batch, Hyper, TrainState, init_state, make_train_step

SIZES = {
    "members": 8,
    "steps": 100,
    "passes": 5,
    "d_model": 64,
    "layers": 2,
    "vocab": 1000,
    "tokens": 512,
}
PAIRS = 2000


def main() -> int:
    """Runs the benchmark, or one process of it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default {size}")
    parser.add_argument("--out", help="file for the record, JSON")
    parser.add_argument("--seeds", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.seeds:
        print(json.dumps(measure(chosen, [int(seed) for seed in chosen.seeds.split(",")])))
        return 0
    if not chosen.out:
        parser.error("a file for the record is needed: --out=population.json")
    record = compare(chosen)
    Path(chosen.out).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Runs all processes, prints what comes of them, and returns the record."""
    seeds = range(chosen.members)
    passes = []
    for number in range(chosen.passes):
        with tempfile.TemporaryDirectory() as cache:
            ways = {
                "together": [",".join(map(str, seeds))],
                "alone": [str(seed) for seed in seeds],
            }
            order = sorted(ways, reverse=number % 2 == 0)
            passes.append({way: run_all(chosen, ways[way], cache) for way in order})
        print(f"pass {number + 1} of {chosen.passes}: {json.dumps(passes[-1])}", flush=True)
    summary = {}
    for way in ("together", "alone"):
        for part in ("steps", "process"):
            rates = [chosen.members / each[way][f"{part}_seconds"] for each in passes]
            summary[f"{way}_members_per_second_{part}"] = {
                "median": statistics.median(rates),
                "least": min(rates),
                "most": max(rates),
            }
    for part in ("steps", "process"):
        ratios = [
            each["alone"][f"{part}_seconds"] / each["together"][f"{part}_seconds"]
            for each in passes
        ]
        summary[f"times_faster_together_{part}"] = {
            "median": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
        }
    print(json.dumps(summary, indent=2))
    _, plan = make_text(chosen)
    return {
        "sizes": {name: getattr(chosen, name) for name in SIZES},
        "parameters": count_parameters(make_model(chosen)),
        "shapes": plan.shapes,
        "padding": plan.padding,
        "summary": summary,
        "passes": passes,
        "devices": environment.devices(),
        "versions": environment.versions(),
        "git": environment.package_source(),
        "allocator": keep_freed_memory(),
    }


def run_all(chosen: argparse.Namespace, seeds: Sequence[str], cache: str) -> dict[str, float]:
    """Runs one process after another; returns the sums of their seconds."""
    sizes = [f"--{name}={getattr(chosen, name)}" for name in SIZES]
    steps, start = 0.0, time.perf_counter()
    for some in seeds:
        done = subprocess.run(
            [sys.executable, __file__, *sizes, f"--seeds={some}"],
            env={
                **os.environ,
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        steps += json.loads(done.stdout)["steps_seconds"]
    return {"steps_seconds": steps, "process_seconds": time.perf_counter() - start}


def measure(chosen: argparse.Namespace, seeds: Sequence[int]) -> dict[str, float]:
    """Trains the members of the given seeds, together if there are several; times the steps."""
    keep_freed_memory()
    model, (text, plan) = make_model(chosen), make_text(chosen)
    optimizer = scale_by_paper_adam()

    def rate(step: jax.Array, hyper: Hyper) -> jax.Array:
        warmup_steps = hyper.warmup_steps
        return hyper.learning_rate * noam_rate(
            step, d_model=chosen.d_model, warmup_steps=warmup_steps
        )

    train_step = make_train_step(model, optimizer, rate)
    make_state = jax.jit(lambda seed, hyper: init_state(model, optimizer, hyper, seed))
    first = [make_state(np.int64(seed), Hyper.create()) for seed in seeds]
    mesh = make_mesh(len(seeds))
    rows = num_rows(len(seeds), mesh)
    is_alone = len(seeds) == 1
    step = jax.jit(
        train_step if is_alone else make_population_step(train_step, mesh), donate_argnums=0
    )

    def start() -> TrainState:
        # A copy, since the step takes its state away.
        return jax.tree.map(lambda leaf: leaf.copy(), first[0]) if is_alone else stacked()

    def stacked() -> TrainState:
        return stack(first, mesh, rows)

    def batches() -> Iterator[Batch]:
        streams = [train_batches(text, plan, seed) for seed in seeds]
        for drawn in zip(*streams, strict=True):
            filled = [*drawn, *[drawn[-1]] * (rows - len(drawn))]
            yield (
                drawn[0]
                if is_alone
                else {name: np.stack([each[name] for each in filled]) for name in drawn[0]}
            )

    state, metrics, seen = start(), {}, set()
    for batch in batches():
        state, metrics = step(state, batch)
        seen.add(batch["source_BS"].shape)
        # All programs are there.
        if len(seen) == len(plan.shapes):
            break
    state = start()
    jax.block_until_ready((state, metrics))
    stream = batches()
    begin = time.perf_counter()
    for _ in range(chosen.steps):
        state, metrics = step(state, next(stream))
    jax.block_until_ready(state)
    seconds = time.perf_counter() - begin
    if not np.isfinite(np.asarray(metrics["loss"])).all():
        raise ValueError("A loss is not finite, so that this has not measured a training.")
    return {"steps_seconds": seconds}


def make_model(chosen: argparse.Namespace) -> Transformer:
    """Returns the model of the sizes given, in the paper's proportions."""
    return Transformer(
        vocab_size=chosen.vocab,
        d_model=chosen.d_model,
        d_ff=4 * chosen.d_model,
        num_heads=4,
        d_k=chosen.d_model // 4,
        d_v=chosen.d_model // 4,
        num_encoder_layers=chosen.layers,
        num_decoder_layers=chosen.layers,
    )


def make_text(chosen: argparse.Namespace) -> tuple[Encoded, BatchPlan]:
    """Returns pairs of random words, of lengths as captions have them, and their batches."""
    generator = np.random.default_rng(0)
    lengths = np.clip(np.exp(generator.normal(2.6, 0.35, (2, PAIRS))).round(), 3, 45).astype(int)
    sides = [
        Sentences.from_lists(
            np.append(generator.integers(4, chosen.vocab, length - 1), EOS) for length in side
        )
        for side in lengths
    ]
    plan = BatchPlan(*lengths, source_tokens=chosen.tokens, target_tokens=chosen.tokens)
    return Encoded(*sides), plan


if __name__ == "__main__":
    sys.exit(main())
