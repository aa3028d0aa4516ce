"""What a training, alone or among others, is made of: workdir, text, model and programs."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.cli import build, settings
from jaxformer.cli.mistakes import Mistake
from jaxformer.data.batching import Shape
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.files import is_folder
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.record import check_config
from jaxformer.loss import tokens_at_a_time
from jaxformer.model import Transformer
from jaxformer.run.evaluation import Likelihood
from jaxformer.run.finite import TrainStep
from jaxformer.run.patience import Patience
from jaxformer.run.preparation import (
    TrainingData,
    fingerprint,
    learn_tokenizer,
    load_tokenizer,
    prepare_data,
)
from jaxformer.run.restoring import checkpoints_path
from jaxformer.run.training import Cadence
from jaxformer.train import (
    Hyper,
    TrainState,
    init_state,
    make_train_step,
    skip_not_finite,
)

MakeState = Callable[[np.int64, Hyper], TrainState]

# What may change when a run is gone on with: nothing that its earlier steps depend on (a schedule,
# and for some schedules train.num_steps, only if those had the same rates; see `_check_schedule`).
MAY_CHANGE = (
    "optimizer.schedule",
    "model.remat",
    "model.scan_layers",
    "train.num_steps",
    "train.not_finite",
    "train.patience",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "decode.*",
    "parallel.*",
    "data.data_dir",
    "data.manual_dir",
    "data.valid_*",
    "data.test_*",
)


def look_into(
    workdir: Path, config: build.Config
) -> tuple[int, dict[str, Any] | None, dict[int, str]]:
    """Returns the newest sound checkpoint's step, what it was saved with, and damaged newer ones.

    Without any checkpoint: (0, None, {}).

    Raises: Mistake or ValueError if the workdir holds another run, or no sound checkpoint of many.
    """
    before = check_config(workdir, config, MAY_CHANGE, settings.complete)
    if not is_folder(checkpoints_path(workdir)):
        return 0, None, {}
    with Checkpoints(checkpoints_path(workdir), read_only=True) as checkpoints:
        step, faults = checkpoints.newest_sound()
        if step is None:
            return 0, None, {}
        meta = checkpoints.read_meta(step)
    _check_schedule(workdir, before, config, step)
    return step, meta, faults


def _check_schedule(
    workdir: Path, before: build.Config | None, config: build.Config, last_step: int
) -> None:
    """Checks that the steps up to the newest checkpoint had the rates that the settings give.

    Args:
      before: settings of the run in `workdir`, which `config` may differ from in MAY_CHANGE.
    """
    if before is None:
        raise Mistake(
            f"{workdir} holds checkpoints but no config.json, so that their settings are unknown. "
            "Restore it, or give another --workdir."
        )
    old = {group: {**values, **before.get(group, {})} for group, values in config.items()}
    was, now = ((s["optimizer"]["schedule"], s["train"]["num_steps"]) for s in (old, config))
    if was == now:
        return
    try:
        settings.check_value("optimizer.schedule", was[0])
        settings.check_value("train.num_steps", was[1])
        old_rate = build.make_rate(old)
    except ValueError as error:
        raise Mistake(f"In {workdir / 'config.json'}, {error}") from error
    steps, hyper = np.arange(1, last_step + 1, dtype=np.int32), build.make_hyper(config)
    # One after another, since a schedule of the user's own need not bear vmap.
    rates = [
        jax.jit(lambda rate=rate: jax.lax.map(lambda step: rate(step, hyper), steps))()
        for rate in (old_rate, build.make_rate(config))
    ]
    same = np.isclose(*rates, rtol=1e-6, atol=0.0, equal_nan=True)
    if same.all():
        return
    (old_schedule, old_steps), (schedule, num_steps) = was, now
    # The number of steps alone changes the rates of a schedule that ends with the run.
    why = f", and {schedule} ends with the run" if old_schedule == schedule else ""
    changes = [
        (f"{name} is {there} in {workdir} and {here} here", f"{name}={there}")
        for name, there, here in (
            ("optimizer.schedule", old_schedule, schedule),
            ("train.num_steps", old_steps, num_steps),
        )
        if there != here
    ]
    first = int(steps[~same][0])
    raise Mistake(
        f"{', '.join(change for change, _ in changes)}{why}: the steps already done would have had "
        f"other rates from step {first} of {last_step} on. Give another --workdir, or "
        f"{' and '.join(back for _, back in changes)}, or go on in a copy without its checkpoints "
        f"from step {first} on."
    )


def describe_damage(step: int, fault: str, path: str) -> str:
    """Returns what has become of a damaged checkpoint, in words."""
    return f"Checkpoint {step:,} is damaged ({fault}) and was set aside as {path}."


def prepare(
    config: build.Config, begun: Mapping[Path, Mapping[str, Any]]
) -> tuple[Tokenizer, TrainingData]:
    """Returns vocabulary and text; those of the checkpoints, if there are any.

    Args:
      begun: workdirs that hold checkpoints, and what the newest was saved with.

    Raises: Mistake or ValueError if the text cannot be read, or is not that of the checkpoints.
    """
    data = config["data"]
    # What names and numbers can have wrong is found before the corpus, which may take long.
    build.make_model(config, data["vocab_size"])
    build.make_rate(config)
    build.make_length_penalty(config)
    corpus = build.make_corpus(config)
    known = [load_tokenizer(workdir, meta["tokenizer"]) for workdir, meta in begun.items()]
    if len({tokenizer.fingerprint for tokenizer in known}) > 1:
        raise Mistake(
            f"{' and '.join(map(str, begun))} were trained with different vocabularies, and cannot "
            "go on together. Train each of them alone, with jaxformer train."
        )
    if known:
        tokenizer = known[0]
    else:
        tokenizer = learn_tokenizer(
            corpus,
            data["vocab_size"],
            data["vocab_type"],
            source=data["source"],
            target=data["target"],
            every_piece=data["bpe_dropout"] > 0,
            cache_dir=build.cache_dir(config),
        )
    text = prepare_data(
        corpus,
        tokenizer,
        max_length=data["max_length"],
        source_tokens=data["source_tokens"],
        target_tokens=data["target_tokens"],
        rows_multiple=config["train"]["accumulate"],
        bpe_dropout=data["bpe_dropout"],
        spellings=data["spellings"],
        cache_dir=build.cache_dir(config),
    )
    for workdir, meta in begun.items():
        if text.fingerprint != meta["data"]:
            raise Mistake(
                f"The training text has changed since {workdir} was trained on it. Restore it, or "
                "give another --workdir."
            )
    return tokenizer, text


def make_pure(
    config: build.Config, model: Transformer, platform: str
) -> tuple[TrainStep, MakeState]:
    """Returns the train step, and the function that makes a first state (see `of_run`).

    Args:
      platform: of the devices, such as "tpu".
    """
    optimizer = build.make_optimizer(config)
    train_step = make_train_step(
        model,
        optimizer,
        build.make_rate(config),
        accumulate=config["train"]["accumulate"],
        chunk_tokens=tokens_at_a_time(platform),
    )
    if config["train"]["not_finite"] == "skip":
        train_step = skip_not_finite(train_step)
    # Seed and hyper-parameters are arguments, so that all runs of a sweep share the program.
    return train_step, lambda seed, hyper: init_state(model, optimizer, hyper, seed)


def of_run(config: build.Config) -> tuple[np.int64, Hyper]:
    """Returns what the first state is made from: the seed and the hyper-parameters."""
    return np.int64(config["train"]["seed"]), build.make_hyper(config)


def check_traces(
    train_step: TrainStep, make_state: MakeState, text: TrainingData, rows_multiple: int = 1
) -> TrainState:
    """Finds the mistakes that only tracing finds; returns the state's shapes and types.

    Args:
      rows_multiple: of the batches, as for `train_batches`.
    """
    abstract_state = jax.eval_shape(make_state, np.int64(0), Hyper.create())
    for shape in text.plan.shapes:
        jax.eval_shape(train_step, abstract_state, abstract_batch(shape.filled(rows_multiple)))
    return abstract_state


def make_cadence(config: build.Config) -> Cadence:
    """Returns when what happens in a training."""
    names = ("num_steps", "log_every", "eval_every", "checkpoint_every")
    return Cadence(**{name: config["train"][name] for name in names})


def make_meta(tokenizer: Tokenizer, text: TrainingData) -> dict[str, str]:
    """Returns what every checkpoint remembers of the data."""
    meta = {"tokenizer": tokenizer.fingerprint, "data": text.fingerprint}
    return meta if text.valid is None else {**meta, "valid": fingerprint(text.valid)}


def restored_patience(
    limit: int, meta: Mapping[str, Any], now: Mapping[str, str], checkpoints: Checkpoints
) -> Patience:
    """Returns what a checkpoint knows of evaluations, as far as that still holds.

    On another validation text nothing does, and the best checkpoint may have been set aside.

    Args:
      now: what `make_meta` gives today.
    """
    was = meta.get("valid")
    if was is not None and was != now.get("valid"):
        return Patience(limit)
    # Checkpoints of older versions know of none.
    patience = Patience.from_json(limit, meta.get("patience", {}))
    if patience.saved_step not in checkpoints.all_steps():
        patience.saved_best, patience.saved_step = math.inf, None
    return patience


def abstract_batch(shape: Shape) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the types of a batch's arrays."""
    return {
        "source_BS": jax.ShapeDtypeStruct((shape.rows, shape.source), jnp.int32),
        "target_BT": jax.ShapeDtypeStruct((shape.rows, shape.target), jnp.int32),
    }


def valid_fields(found: Likelihood) -> dict[str, float]:
    """Returns what a line of metrics says of the validation split."""
    return {
        "valid_nll": found.nll,
        "valid_perplexity": found.perplexity,
        "valid_accuracy": found.accuracy,
    }


def describe_text(text: TrainingData, max_length: int) -> str:
    """Returns how much text there is, and how it is batched, as lines for the user."""
    plan = text.plan
    shapes = ", ".join(f"{shape.rows} x ({shape.source} + {shape.target})" for shape in plan.shapes)
    valid = "no validation split" if text.valid is None else f"{len(text.valid):,} of validation"
    return (
        f"Text: {len(text.train):,} training pairs, {valid}; {text.left_out:,} training pairs left "
        f"out because a side is longer than {max_length} tokens (data.max_length).\n"
        f"Batches: {plan.batches_per_epoch:,} an epoch, of shapes {shapes} (rows x source + target "
        f"slots), {plan.padding:.1%} padding."
    )
