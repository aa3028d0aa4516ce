"""One measured process of jaxformer's: `python -m experiments.benchmarks.ours WHAT ...`.

It prints a line of JSON. `bench.py` runs it; by hand it is a way to try a variant of the step.

    train    steps of a training on batches from a file
    decode   beam search on sentences from a file
    lengths  beam search on sentences of many lengths
    ceiling  the fastest matrix products
    export   writes the decoder's model for CTranslate2
    bare     the steps of a run, without its loop (see end_to_end.py)
    padding  share of padding with the paper's token budget on Multi30k
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.sizes import (
    DECODED_BATCHES,
    LABEL_SMOOTHING,
    SIZES,
    Size,
    draw_sentences,
    pieces,
    read_batches,
)
from experiments.shared.timing import fastest, peak_memory, report, time_steps
from jaxformer.io.environment import allocator
from jaxformer.model import Transformer
from jaxformer.optim import noam_rate, scale_by_paper_adam
from jaxformer.run.compilation import enable_cache
from jaxformer.run.translation import make_decode
from jaxformer.train import Batch, Hyper, TrainState, init_state, make_train_step

CEILING_SHAPES = ((2048, 2048, 2048), (2048, 512, 2048), (2048, 128, 256))
DTYPES = ("float32", "bfloat16")
# Slots of a batch of sentences of many lengths.
_DECODED_TOKENS = 1024


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=sorted(WORK))
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="model.dtype")
    parser.add_argument("--product_dtype", choices=DTYPES, help="model.product_dtype")
    parser.add_argument("--batches", help="file that sizes.write_batches wrote")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--steps", type=int, default=32, help="tokens of an output, EOS included")
    parser.add_argument("--seconds", type=float, default=10.0, help="about so long is timed")
    parser.add_argument("--started", type=float, default=time.time(), help="of this process")
    parser.add_argument("--output", type=Path, help="file of outputs, or folder of the export")
    parser.add_argument("--workdir", help="of the run whose steps are measured")
    parser.add_argument("--first", type=int, default=1, help="the first of those steps")
    chosen = parser.parse_args()
    enable_cache()
    report(WORK[chosen.what](chosen))


def make_model(size: Size, dtype: str, product_dtype: str | None) -> Transformer:
    """Returns the model of a size."""
    model = Transformer(
        vocab_size=size.vocab_size,
        d_model=size.d_model,
        d_ff=size.d_ff,
        num_heads=size.num_heads,
        d_k=size.d_model // size.num_heads,
        d_v=size.d_model // size.num_heads,
        num_encoder_layers=size.layers,
        num_decoder_layers=size.layers,
        dtype=jnp.dtype(dtype),
    )
    # Named only where it is asked for: commits that the regression script compares may lack it.
    return model.clone(product_dtype=jnp.dtype(product_dtype)) if product_dtype else model


def make_step(
    size: Size, dtype: str, product_dtype: str | None
) -> tuple[TrainState, Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]]:
    """Returns (state, compiled step), made as `jaxformer train` makes them.

    This is the one place that knows how a variant of the step is made.
    """
    model, optimizer = make_model(size, dtype, product_dtype), scale_by_paper_adam()
    hyper = Hyper.create(dropout_rate=size.dropout_rate, label_smoothing=LABEL_SMOOTHING)

    def rate(step: jax.Array, hyper: Hyper) -> jax.Array:
        return hyper.learning_rate * noam_rate(
            step, d_model=size.d_model, warmup_steps=hyper.warmup_steps
        )

    make_state = jax.jit(lambda seed, hyper: init_state(model, optimizer, hyper, seed))
    state = jax.device_put(make_state(np.int64(0), hyper), jax.local_devices()[0])
    return state, jax.jit(make_train_step(model, optimizer, rate), donate_argnums=0)


def train(chosen: argparse.Namespace) -> dict[str, Any]:
    """Times training steps."""
    size = SIZES[chosen.size]
    batches = [
        {"source_BS": source_BS, "target_BT": target_BT}
        for source_BS, target_BT in read_batches(chosen.batches)
    ]
    state, train_step = make_step(size, chosen.dtype, chosen.product_dtype)
    metrics: dict[str, jax.Array] = {}

    def step(number: int) -> None:
        nonlocal state, metrics
        state, metrics = train_step(state, batches[number % len(batches)])

    found = time_steps(
        step, lambda: jax.block_until_ready(state), seconds=chosen.seconds, started=chosen.started
    )
    loss = float(metrics["loss"])
    if not np.isfinite(loss):
        raise ValueError("The loss is not finite, so that this has not measured a training.")
    rate = size.tokens / found["step_seconds"]
    return {**found, "tokens_per_second": rate, "loss": loss, "allocator": allocator()}


def bare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Times the steps of a run from `--first` to its end, all batches at hand and nothing saved."""
    from jaxformer.cli.build import make_model as model_of_run
    from jaxformer.cli.groundwork import make_pure, of_run, prepare
    from jaxformer.cli.trained import read_settings
    from jaxformer.data.pipeline import train_batches

    config = read_settings(chosen.workdir, [])
    tokenizer, text = prepare(config, {})
    train_step, make_state = make_pure(
        config, model_of_run(config, tokenizer.vocab_size), jax.default_backend()
    )
    step = jax.jit(train_step, donate_argnums=0)
    stream = train_batches(text.train, text.plan, config["train"]["seed"], chosen.first - 1)
    batches = [next(stream) for _ in range(config["train"]["num_steps"] - chosen.first + 1)]
    state = jax.device_put(make_state(*of_run(config)), jax.local_devices()[0])
    for batch in {batch["source_BS"].shape: batch for batch in batches}.values():
        state, _ = step(state, batch)
    jax.block_until_ready(state)
    begin = time.perf_counter()
    for batch in batches:
        state, _ = step(state, batch)
    jax.block_until_ready(state)
    return {"seconds": time.perf_counter() - begin, "steps": len(batches)}


def decode(chosen: argparse.Namespace) -> dict[str, Any]:
    """Times beam search; each batch has outputs of exactly the same length."""
    size, batches = SIZES[chosen.size], read_batches(chosen.batches)[:DECODED_BATCHES]
    model = make_model(size, chosen.dtype, chosen.product_dtype)
    # As long as the outputs of CTranslate2: all but the last token, which is EOS.
    extra_length = chosen.steps - size.length
    decode = make_decode(model, num_beams=chosen.beams, alpha=0.0, extra_length=extra_length)
    params = draw_params(model)
    sources = [source_BS for batch in batches for source_BS in _in_groups(batch[0])]
    outputs = []

    def run() -> None:
        outputs[:] = [np.asarray(decode(params, source_BS)) for source_BS in sources]

    seconds = fastest(run, chosen.seconds)
    if chosen.output:
        names = pieces(size)
        rows = [[names[token] for token in row] for token_BT in outputs for row in token_BT]
        chosen.output.write_text(json.dumps(rows), encoding="utf-8")
    sentences = sum(map(len, sources))
    return {
        "sentences_per_second": sentences / seconds,
        "sentences": sentences,
        "peak_bytes": peak_memory(),
        "allocator": allocator(),
    }


def draw_params(model: Transformer) -> Any:
    """Returns random parameters."""
    token_BT = jnp.ones((1, 2), jnp.int32)
    return jax.jit(model.init)(jax.random.key(0), token_BT, token_BT)["params"]


def lengths(chosen: argparse.Namespace) -> dict[str, Any]:
    """Times beam search on sentences of many lengths; an output is as long as its input."""
    from jaxformer.data import pipeline

    size = SIZES[chosen.size]
    model = make_model(size, chosen.dtype, chosen.product_dtype)
    decode = make_decode(model, num_beams=chosen.beams, alpha=0.0, extra_length=0)
    params, sources = draw_params(model), draw_sentences(size)
    batches = list(pipeline.source_batches(sources, _DECODED_TOKENS))

    def run() -> None:
        jax.block_until_ready([decode(params, batch.source_BS) for batch in batches])

    seconds = fastest(run, chosen.seconds)
    return {
        "sentences_per_second": len(sources) / seconds,
        "sentences": len(sources),
        "batches": [batch.source_BS.shape for batch in batches],
        "peak_bytes": peak_memory(),
        "allocator": allocator(),
    }


def _in_groups(source_BS: np.ndarray, rows: int = 64) -> list[np.ndarray]:
    return [source_BS[start : start + rows] for start in range(0, len(source_BS), rows)]


def export(chosen: argparse.Namespace) -> dict[str, Any]:
    """Writes the model that `decode` decodes with."""
    from jaxformer.io import export_ctranslate2

    size = SIZES[chosen.size]
    model = make_model(size, chosen.dtype, chosen.product_dtype)
    params = draw_params(model)
    chosen.output.mkdir()
    export_ctranslate2.save(model, params, pieces(size), chosen.output, longest=chosen.steps)
    return {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}


def ceiling(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measures the operations a second of matrix products that give float32."""
    return {dtype: product_rates(dtype, chosen.seconds / 6) for dtype in DTYPES}


def product_rates(dtype: str, seconds: float) -> dict[str, float]:
    """Returns shape -> operations a second of matrix products that give float32.

    Args:
      seconds: that each is repeated for; its fastest run counts.
    """
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
    found: dict[str, float] = {}
    for rows, inner, columns in CEILING_SHAPES:
        a = jnp.ones((rows, inner), dtype)
        b = jnp.ones((inner, columns), dtype)

        def work(a: jax.Array = a, b: jax.Array = b) -> None:
            multiply(a, b).block_until_ready()

        found[f"{rows}x{inner}x{columns}"] = 2 * rows * inner * columns / fastest(work, seconds)
    return found


def padding(chosen: argparse.Namespace) -> dict[str, Any]:
    """Plans an epoch of Multi30k with 25,000 tokens a side (section 5.1)."""
    from jaxformer.cli import config as config_lib
    from jaxformer.cli.groundwork import prepare

    root = Path(__file__).resolve().parent.parent.parent
    config = config_lib.load(str(root / "configs" / "multi30k.py")).to_dict()
    config["data"].update(source_tokens=25_000, target_tokens=25_000)
    try:
        _, text = prepare(config, {})
    except (ValueError, OSError) as error:
        return {"padding": None, "why": str(error)}
    return {"padding": text.plan.padding, "shapes": text.plan.shapes}


WORK = {
    "bare": bare,
    "ceiling": ceiling,
    "decode": decode,
    "export": export,
    "lengths": lengths,
    "padding": padding,
    "train": train,
}

if __name__ == "__main__":
    sys.exit(main())
