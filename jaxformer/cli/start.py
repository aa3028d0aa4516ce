"""Starting a training, or going on with one: all that lies between the settings and the loop."""

import contextlib
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.cli import build
from jaxformer.cli.mistakes import (
    Diverged,
    Mistake,
    Stopped,
    describe,
    file_mistakes,
    mistakes,
)
from jaxformer.data.batching import Shape
from jaxformer.data.pipeline import eval_batches, train_batches
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.record import Metrics, check_config, write_config, write_run
from jaxformer.model import Transformer
from jaxformer.run.allocator import keep_freed_memory
from jaxformer.run.compilation import enable_cache
from jaxformer.run.evaluation import Likelihood, likelihood
from jaxformer.run.finite import NotFinite, TrainStep, debugged
from jaxformer.run.patience import Patience
from jaxformer.run.preparation import (
    TrainingData,
    learn_tokenizer,
    load_tokenizer,
    prepare_data,
    tokenizer_folder,
)
from jaxformer.run.progress import Progress
from jaxformer.run.restoring import checkpoints_path, count_parameters
from jaxformer.run.signals import noted_signals
from jaxformer.run.tally import Tally
from jaxformer.run.training import Cadence, Validate, resume_point
from jaxformer.run.training import train as run_loop
from jaxformer.train import (
    Hyper,
    TrainState,
    init_state,
    make_eval_step,
    make_train_step,
    skip_not_finite,
)

MakeState = Callable[[np.int64, Hyper], TrainState]

# What may change when a run is gone on with: nothing that its earlier steps depend on (some
# schedules depend on train.num_steps; see `_check_schedule`).
MAY_CHANGE = (
    "train.num_steps",
    "train.not_finite",
    "train.patience",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "decode.*",
    "data.data_dir",
    "data.manual_dir",
    "data.valid_*",
    "data.test_*",
)


def train(
    config: build.Config,
    workdir: Path,
    argv: Sequence[str],
    overrides: Mapping[str, Any],
    *,
    debug_nans: bool = False,
) -> None:
    """Trains as the settings say, in a new workdir or in one that holds the same run.

    Nothing is written to a workdir before all that it depends on has been read and checked.

    Args:
      argv, overrides: for the record.
      debug_nans: find the operation that makes a NaN.

    Raises: Mistake for what the user can mend; Stopped at a signal, after a last checkpoint;
      Diverged at numbers that are not finite, which are in no checkpoint.
    """
    allocator = keep_freed_memory()
    enable_cache()
    training = config["train"]
    with mistakes():
        last_step, meta, faults = look_into(workdir, config)
        tokenizer, text = prepare(config, {} if meta is None else {workdir: meta})
        model = build.make_model(config, tokenizer.vocab_size)
        train_step, make_state = make_pure(config, model)
        abstract_state = check_traces(train_step, make_state, text)
        checkpoints = Checkpoints(checkpoints_path(workdir), keep=training["keep_checkpoints"])

    with checkpoints, Progress(sys.stdout, training["num_steps"]) as progress:
        with mistakes():
            if meta is None:
                # Placed as a restored state is, or the step would be compiled for both.
                state = jax.device_put(make_state(*of_run(config)), jax.local_devices()[0])
                tally, last_kept, patience = Tally(), 0, Patience(training["patience"])
                tokenizer.save(tokenizer_folder(workdir))
            else:
                for damaged, fault in faults.items():
                    progress.say(describe_damage(damaged, fault, checkpoints.set_aside(damaged)))
                state = checkpoints.restore(abstract_state, last_step)
                tally, last_kept = resume_point(meta, int(state.step))
                # Checkpoints of older versions know of none.
                patience = Patience.from_json(
                    training["patience"], meta.get("patience", Patience(0).to_json())
                )
            step = int(state.step)
            if step < training["num_steps"] and not patience.is_spent:
                write_config(workdir, config, MAY_CHANGE)
            write_run(
                workdir,
                argv=argv,
                overrides=overrides,
                seeds={"train": training["seed"]},
                allocator=allocator,
            )
        progress.say(_describe_model(model, allocator))
        progress.say(describe_text(text, config["data"]["max_length"]))
        if step >= training["num_steps"]:
            progress.say(
                f"{workdir} is trained to step {step:,} already. Raise train.num_steps to go on."
            )
            return
        if patience.is_spent:
            progress.say(f"{_describe_end(workdir, step, patience)} Raise it to go on.")
            return
        if step:
            progress.say(f"Going on from step {step:,} of {training['num_steps']:,}.")

        def name_batch(step: int) -> str:
            epoch, number = text.plan.position(step - 1)
            return f"batch {number} of epoch {epoch}, both counted from 0"

        progress.wait("Compiling (the next start will find the programs in the cache)")
        with (
            file_mistakes(),
            _told_where_to_go_on(checkpoints),
            Metrics(workdir / "metrics.jsonl", last_kept) as metrics_file,
            noted_signals() as noted_signal,
        ):
            # Where an operation is looked for, the state is needed once more.
            step_of_run = jax.jit(train_step, donate_argnums=() if debug_nans else 0)
            state = run_loop(
                debugged(step_of_run, name_batch) if debug_nans else step_of_run,
                state,
                train_batches(text.train, text.plan, training["seed"], step),
                make_cadence(config),
                checkpoints=checkpoints,
                metrics_file=metrics_file,
                progress=progress,
                validate=_make_validate(config, model, text),
                tally=tally,
                patience=patience,
                name_batch=name_batch,
                should_end=lambda: noted_signal() is not None,
                meta=make_meta(tokenizer, text),
            )
            checkpoints.wait()
            step, number = int(state.step), noted_signal()
        if step < training["num_steps"] and number is not None and not patience.is_spent:
            raise Stopped(
                f"Stopped by {number.name} after step {step:,}, which is saved: the same command "
                "goes on from there.",
                number,
            )
        progress.say(
            f"Trained to step {step:,}: {workdir}"
            if step == training["num_steps"]
            else _describe_end(workdir, step, patience)
        )


@contextlib.contextmanager
def _told_where_to_go_on(checkpoints: Checkpoints) -> Generator[None]:
    """Gives an interruption and a full disk the words that their user needs."""
    try:
        yield
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted. {_where_to_go_on(checkpoints)}") from None
    except OSError as error:
        raise Mistake(f"{describe(error)} {_where_to_go_on(checkpoints)}") from error
    except NotFinite as error:
        newest = checkpoints.latest_step()
        kept = "There is no checkpoint" if newest is None else f"Checkpoint {newest:,} is kept"
        is_found = isinstance(error.__cause__, FloatingPointError)
        find = "" if is_found else "find the operation with --debug_nans, or "
        raise Diverged(
            f"{error}\n{kept}. To go on, {find}leave such updates out with "
            "--config.train.not_finite=skip."
        ) from error


def _where_to_go_on(checkpoints: Checkpoints) -> str:
    newest = checkpoints.latest_step()
    if newest is None:
        return "There is no checkpoint yet: the same command starts from the beginning."
    return (
        f"The same command goes on from step {newest:,}, the newest checkpoint in "
        f"{checkpoints.directory}."
    )


def look_into(
    workdir: Path, config: build.Config
) -> tuple[int, dict[str, Any] | None, dict[int, str]]:
    """Returns the newest sound checkpoint's step, what it was saved with, and damaged newer ones.

    Without any checkpoint: (0, None, {}).

    Raises: Mistake or ValueError if the workdir holds another run, or no sound checkpoint of many.
    """
    before = check_config(workdir, config, MAY_CHANGE)
    last_step, meta, faults = _read_meta(workdir)
    if meta is not None:
        _check_schedule(workdir, before, config, last_step)
    return last_step, meta, faults


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
    new = config["train"]["num_steps"]
    old = before.get("train", {}).get("num_steps", new)
    if old == new:
        return
    hyper = build.make_hyper(config)
    steps = np.unique(np.linspace(1, last_step, 48).round().astype(np.int32))
    rates = []
    for num_steps in (old, new):
        training = {**config["train"], "num_steps": num_steps}
        rate = jax.jit(build.make_rate({**config, "train": training}))
        rates.append([float(rate(step, hyper)) for step in steps])
    if not np.allclose(*rates, rtol=1e-6, atol=0.0, equal_nan=True):
        schedule = config["optimizer"]["schedule"]
        raise Mistake(
            f"train.num_steps is {old} in {workdir} and {new} here, but the schedule {schedule} "
            "ends with the run: the steps already done would have had other rates. Give another "
            f"--workdir, or train.num_steps={old}."
        )


def _read_meta(workdir: Path) -> tuple[int, dict[str, Any] | None, dict[int, str]]:
    """Returns the newest sound checkpoint's step, what it was saved with, and damaged newer ones.

    Without any checkpoint: (0, None, {}).
    """
    if not checkpoints_path(workdir).is_dir():
        return 0, None, {}
    with Checkpoints(checkpoints_path(workdir), read_only=True) as checkpoints:
        step, faults = checkpoints.newest_sound()
        return (0, None, {}) if step is None else (step, checkpoints.read_meta(step), faults)


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
        )
    text = prepare_data(
        corpus,
        tokenizer,
        max_length=data["max_length"],
        source_tokens=data["source_tokens"],
        target_tokens=data["target_tokens"],
        rows_multiple=config["train"]["accumulate"],
    )
    for workdir, meta in begun.items():
        if text.fingerprint != meta["data"]:
            raise Mistake(
                f"The training text has changed since {workdir} was trained on it. Restore it, or "
                "give another --workdir."
            )
    return tokenizer, text


def make_pure(config: build.Config, model: Transformer) -> tuple[TrainStep, MakeState]:
    """Returns the train step, and a compiled function that makes a first state (see `of_run`)."""
    optimizer = build.make_optimizer(config)
    train_step = make_train_step(
        model, optimizer, build.make_rate(config), accumulate=config["train"]["accumulate"]
    )
    if config["train"]["not_finite"] == "skip":
        train_step = skip_not_finite(train_step)
    # Seed and hyper-parameters are arguments, so that all runs of a sweep share the program.
    make_state = jax.jit(lambda seed, hyper: init_state(model, optimizer, hyper, seed))
    return train_step, make_state


def of_run(config: build.Config) -> tuple[np.int64, Hyper]:
    """Returns what the first state is made from: the seed and the hyper-parameters."""
    return np.int64(config["train"]["seed"]), build.make_hyper(config)


def check_traces(train_step: TrainStep, make_state: MakeState, text: TrainingData) -> TrainState:
    """Finds the mistakes that only tracing finds; returns the state's shapes and types."""
    abstract_state = jax.eval_shape(make_state, np.int64(0), Hyper.create())
    for shape in text.plan.shapes:
        jax.eval_shape(train_step, abstract_state, _abstract_batch(shape))
    return abstract_state


def make_cadence(config: build.Config) -> Cadence:
    """Returns when what happens in a training."""
    names = ("num_steps", "log_every", "eval_every", "checkpoint_every")
    return Cadence(**{name: config["train"][name] for name in names})


def make_meta(tokenizer: Tokenizer, text: TrainingData) -> dict[str, str]:
    """Returns what every checkpoint remembers of the data."""
    return {"tokenizer": tokenizer.fingerprint, "data": text.fingerprint}


def _abstract_batch(shape: Shape) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        "source_BS": jax.ShapeDtypeStruct((shape.rows, shape.source), jnp.int32),
        "target_BT": jax.ShapeDtypeStruct((shape.rows, shape.target), jnp.int32),
    }


def _make_validate(config: build.Config, model: Transformer, text: TrainingData) -> Validate | None:
    if text.valid is None or not len(text.valid):
        return None
    eval_step = jax.jit(make_eval_step(model))
    batches = list(eval_batches(text.valid, config["data"]["target_tokens"]))

    return lambda params: valid_fields(likelihood(eval_step, params, batches))


def valid_fields(found: Likelihood) -> dict[str, float]:
    """Returns what a line of metrics says of the validation split."""
    return {
        "valid_nll": found.nll,
        "valid_perplexity": found.perplexity,
        "valid_accuracy": found.accuracy,
    }


def _describe_end(workdir: Path, step: int, patience: Patience) -> str:
    return (
        f"{workdir} ended at step {step:,}: the last {patience.waited} evaluations brought "
        f"nothing, and train.patience is {patience.limit}."
    )


def _describe_model(model: Transformer, allocator: str) -> str:
    devices = jax.local_devices()
    others = f", one of {len(devices)}: the others are not used" if len(devices) > 1 else ""
    return (
        f"Model: {count_parameters(model):,} parameters, {model.vocab_size:,} word pieces. "
        f"Device: {devices[0].device_kind}{others}. Allocator: {allocator}."
    )


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
