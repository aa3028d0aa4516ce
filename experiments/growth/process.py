"""One measured process: `python -m experiments.growth.process NAME --seconds=2`.

It prints a line of JSON. `experiments/cost_growth.py` runs it.
"""

import argparse
import sys
import time
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.ours import draw_params, make_model, make_step
from experiments.benchmarks.sizes import draw_batches
from experiments.growth.cases import FULL, QUICK, Case
from experiments.shared.memory import peak_bytes
from experiments.shared.timing import report, time_steps
from jaxformer.model import PAD
from jaxformer.run.compilation import enable_cache
from jaxformer.run.translation import make_decode

_DTYPE = "float32"
# The search's length penalty: strong enough that no output ends early because it is likelier so.
_ALPHA = 2.0


def main() -> None:
    """Measures the case that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of a case")
    parser.add_argument("--seconds", type=float, default=2.0, help="about so long is timed")
    parser.add_argument("--started", type=float, default=time.time(), help="of this process")
    chosen = parser.parse_args()
    cases = {case.name: case for grid in (FULL, QUICK) for case in grid.cases()}
    if chosen.name not in cases:
        parser.error(f"{chosen.name!r} is no case of experiments/growth/cases.py")
    case = cases[chosen.name]
    enable_cache()
    report((search if case.beams else train)(case, chosen.seconds, chosen.started))


def train(case: Case, seconds: float, started: float) -> dict[str, Any]:
    """Times training steps; `plan_bytes` is the memory of the compiled step."""
    size = case.size
    batches = [
        {"source_BS": source_BS, "target_BT": target_BT}
        for source_BS, target_BT in draw_batches(size)
    ]
    state, train_step = make_step(size, _DTYPE, None)
    compiled = jax.jit(train_step, donate_argnums=0).lower(state, batches[0]).compile()
    metrics: dict[str, jax.Array] = {}

    def step(number: int) -> None:
        nonlocal state, metrics
        state, metrics = compiled(state, batches[number % len(batches)])

    found = time_steps(step, lambda: jax.block_until_ready(state), seconds=seconds, started=started)
    loss = float(metrics["loss"])
    if not np.isfinite(loss):
        raise ValueError("The loss is not finite, so that this has not measured a training.")
    return {**_figures(found), "plan_bytes": peak_bytes(compiled)}


def search(case: Case, seconds: float, started: float) -> dict[str, Any]:
    """Times searches for outputs as long as the inputs; `output_tokens` is how long they are."""
    size = case.size
    model = make_model(size, _DTYPE, None)
    params = draw_params(model)
    sources = [source_BS for source_BS, _ in draw_batches(size)]
    decode = make_decode(model, num_beams=case.beams, alpha=_ALPHA, extra_length=0)
    compiled = jax.jit(decode).lower(params, sources[0]).compile()
    token_BT = jax.numpy.zeros(())

    def step(number: int) -> None:
        nonlocal token_BT
        token_BT = compiled(params, sources[number % len(sources)])

    found = time_steps(
        step, lambda: jax.block_until_ready(token_BT), seconds=seconds, started=started
    )
    lengths = np.sum(np.asarray(token_BT) != PAD, axis=1)
    return {
        **_figures(found),
        "plan_bytes": peak_bytes(compiled),
        "output_tokens": float(np.mean(lengths)),
    }


def _figures(found: dict[str, float]) -> dict[str, float]:
    """Returns what is kept of a timing: seconds a step, of how many steps, and memory meanwhile."""
    return {
        "seconds": float(f"{found['step_seconds']:.4g}"),
        "steps": found["steps"],
        "held_bytes": found["peak_bytes_steps"],
    }


if __name__ == "__main__":
    sys.exit(main())
