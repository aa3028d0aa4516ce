"""How much of a beam search goes to sentences that are done, and so what dropping them could save.

    python -m experiments.benchmarks.compacting --workdir=runs/x --out=compacting.json

A batch is searched until its last sentence is done. This translates a split with a trained model,
counts the sentences of every step that are not done yet, and says what a search would save whose
steps cost as their rows do: `at_most` if it dropped each sentence at once, `by_halves` if it went
on with half of the rows whenever they suffice, as programs of fixed shapes could. Neither counts
what the moving of rows costs, nor that half of the rows take more than half of a step's time.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxformer.cli import build
from jaxformer.cli.mistakes import answered
from jaxformer.cli.trained import read_settings
from jaxformer.cli.translator import open_trained, open_translate
from jaxformer.decode import search
from jaxformer.files import replace_file
from jaxformer.io import environment

Note = Callable[[int, list[int]], None]
"""Is told the rows of a batch, and how many of them are not done at each step."""


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="compacting", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--split", default="valid", help="train, valid or test (default valid)")
    parser.add_argument("--out", required=True, type=Path, help="file of the record, JSON")
    chosen = parser.parse_args()
    if not chosen.out.absolute().parent.is_dir():
        parser.error(f"--out={chosen.out} is in no folder; make it")
    return answered("compacting", lambda: measure(chosen))


def measure(chosen: argparse.Namespace) -> None:
    """Translates the split, prints what was counted and writes the record."""
    config = read_settings(chosen.workdir, [])
    sources = [
        source for source, _ in build.make_corpus(config, [chosen.split]).pairs(chosen.split)
    ]
    trained = open_trained(config, chosen.workdir)
    counted: list[tuple[int, list[int]]] = []
    watch(lambda rows, alive: counted.append((rows, alive)), setattr)
    open_translate(config, trained)(trained.params, sources)
    jax.effects_barrier()
    record = {
        "split": chosen.split,
        "sentences": len(sources),
        "checkpoints": trained.steps,
        "decode": dict(config["decode"]),
        **summarise(counted),
        "versions": environment.versions(),
        "git": environment.package_source(),
    }
    replace_file(chosen.out, json.dumps(record, indent=2) + "\n")
    print(json.dumps({name: record[name] for name in ("at_most", "by_halves")}))


def watch(note: Note, replace: Callable[[Any, str, Any], None]) -> None:
    """Has `note` told of every loop of a beam search that is traced from now on.

    Args:
      replace: setattr, or a test's own, which puts back what was there.
    """

    def until(state: Any, room: int, advance: Callable[[Any], Any]) -> Any:
        def is_on(carry: tuple[Any, jax.Array]) -> jax.Array:
            return jnp.any(~carry[0].done_B) & (carry[0].time < room)

        def go_on(carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            state, alive_T = carry
            return advance(state), alive_T.at[state.time].set(jnp.sum(~state.done_B))

        def tell(start: Any, end: Any, alive_T: Any) -> None:
            note(rows, alive_T[int(start) : int(end)].tolist())

        (rows,) = state.done_B.shape
        after, alive_T = jax.lax.while_loop(is_on, go_on, (state, jnp.zeros(room, jnp.int32)))
        jax.debug.callback(tell, state.time, after.time, alive_T)
        return after

    replace(search, "_until", until)


def summarise(counted: list[tuple[int, list[int]]]) -> dict[str, float]:
    """Returns the sums over all steps, and how many times less the rows could be."""
    steps = [(rows, alive) for rows, each in counted for alive in each]
    all_rows = sum(rows for rows, _ in steps)
    alive_rows = sum(alive for _, alive in steps)
    halved_rows = sum(_halved(rows, alive) for rows, alive in steps)
    return {
        "steps": len(steps),
        "rows": all_rows,
        "rows_not_done": alive_rows,
        "rows_by_halves": halved_rows,
        "at_most": all_rows / alive_rows,
        "by_halves": all_rows / halved_rows,
    }


def _halved(rows: int, alive: int) -> int:
    """Returns the rows after so many halvings, rounded up, as leave room for those alive."""
    while (half := -(-rows // 2)) >= alive and half < rows:
        rows = half
    return rows


if __name__ == "__main__":
    sys.exit(main())
