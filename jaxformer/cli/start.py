"""Starting a training, or going on with one, and saying how it ends."""

import contextlib
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
from jax.sharding import Mesh

from jaxformer.cli import build, settings
from jaxformer.cli.groundwork import (
    MAY_CHANGE,
    check_traces,
    describe_damage,
    describe_text,
    look_into,
    make_cadence,
    make_meta,
    make_pure,
    of_run,
    prepare,
    restored_patience,
    valid_fields,
)
from jaxformer.cli.mistakes import (
    Diverged,
    Mistake,
    Stopped,
    describe,
    file_mistakes,
    mistakes,
)
from jaxformer.data.pipeline import Shares, eval_batches, train_batches
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.hosts import channel
from jaxformer.io.record import Metrics, write_config, write_run
from jaxformer.loss import tokens_at_a_time
from jaxformer.model import Transformer
from jaxformer.run.comparison import compare_data, compare_programs
from jaxformer.run.compilation import enable_cache
from jaxformer.run.evaluation import likelihood
from jaxformer.run.finite import NotFinite, debugged
from jaxformer.run.patience import Patience
from jaxformer.run.preparation import TrainingData, tokenizer_folder
from jaxformer.run.progress import Progress
from jaxformer.run.restoring import abstract_params, checkpoints_path, count_parameters
from jaxformer.run.signals import noted_signals
from jaxformer.run.stopping import Stop
from jaxformer.run.tally import Tally
from jaxformer.run.training import Validate, resume_point
from jaxformer.run.training import train as run_loop
from jaxformer.sharding import (
    jit_step,
    make_layout,
    make_mesh,
    num_shares,
    own_shares,
    place_batch,
    place_own_rows,
    platform_of,
    state_shardings,
    with_shardings,
)
from jaxformer.train import Params, make_eval_step


def train(
    config: build.Config,
    workdir: Path,
    argv: Sequence[str],
    overrides: Mapping[str, Any],
    allocator: str,
    *,
    debug_nans: bool = False,
) -> None:
    """Trains as the settings say, in a new workdir or in one that holds the same run.

    Nothing is written to a workdir before all that it depends on has been read and checked.

    Args:
      argv, overrides, allocator: for the record.
      debug_nans: find the operation that makes a NaN.

    Raises: Mistake for what the user can mend; Stopped at a signal, after a last checkpoint;
      Diverged at numbers that are not finite, which are in no checkpoint.
    """
    enable_cache()
    training, here = config["train"], channel()
    is_first = here.process_id == 0
    with mistakes():
        compare_programs(workdir, config, here)
        last_step, meta, faults = look_into(workdir, config)
        mesh = _make_mesh(config)
        if debug_nans and mesh.size > 1:
            raise Mistake(
                f"--debug_nans looks for the operation on one device, and there are {mesh.size}. "
                "Let one be seen, with CUDA_VISIBLE_DEVICES=0 for instance: a run goes on on any."
            )
        tokenizer, text = prepare(config, {} if meta is None else {workdir: meta})
        if training["patience"] and not text.valid:
            raise Mistake(
                f"train.patience={training['patience']} counts evaluations, and the corpus has no "
                "validation split. Name one (data.valid_source, data.valid_target), or set "
                "train.patience=0."
            )
        model = build.make_model(config, tokenizer.vocab_size).clone(layout=make_layout(mesh))
        train_step, make_state = make_pure(config, model, platform_of(mesh))
        # Every share of the rows is worked off in as many parts.
        rows_multiple = training["accumulate"] * num_shares(mesh)
        shapes = check_traces(train_step, make_state, text, rows_multiple)
        shardings = state_shardings(shapes, mesh)
        compare_data(tokenizer, text, here)
        data_meta = make_meta(tokenizer, text)
        checkpoints = Checkpoints(checkpoints_path(workdir), keep=training["keep_checkpoints"])

    with (
        checkpoints,
        _output(is_first) as output,
        Progress(output, training["num_steps"]) as progress,
    ):
        with mistakes():
            if meta is None:
                state = jax.jit(make_state, out_shardings=shardings)(*of_run(config))
                tally, last_kept, patience = Tally(), 0, Patience(training["patience"])
            else:
                for damaged, fault in faults.items():
                    progress.say(describe_damage(damaged, fault, checkpoints.set_aside(damaged)))
                state = checkpoints.restore(with_shardings(shapes, shardings), last_step)
                tally, last_kept = resume_point(meta, int(state.step))
                patience = restored_patience(training["patience"], meta, data_meta, checkpoints)
            step = int(state.step)
            if is_first:
                if meta is None:
                    tokenizer.save(tokenizer_folder(workdir))
                if step < training["num_steps"] and not patience.is_spent:
                    write_config(workdir, config, MAY_CHANGE, settings.complete)
                write_run(
                    workdir,
                    argv=argv,
                    overrides=overrides,
                    seeds={"train": training["seed"]},
                    allocator=allocator,
                    mesh=mesh.shape,
                )
        progress.say(_describe_model(model, mesh, allocator))
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
            _metrics(workdir, last_kept, is_first) as metrics_file,
            noted_signals() as noted_signal,
        ):
            stop = Stop(noted_signal, here)
            here.wait_for_all()
            # Where an operation is looked for, the state is needed once more.
            step_of_run = jit_step(train_step, shardings, mesh, donate=not debug_nans)
            batches = train_batches(
                text.train,
                text.plan,
                training["seed"],
                step,
                rows_multiple=rows_multiple,
                shares=Shares(own_shares(mesh), num_shares(mesh)),
            )
            state = run_loop(
                debugged(step_of_run, name_batch) if debug_nans else step_of_run,
                state,
                (place_own_rows(batch, mesh) for batch in batches),
                make_cadence(config),
                checkpoints=checkpoints,
                metrics_file=metrics_file,
                progress=progress,
                validate=_make_validate(config, model, text, mesh),
                tally=tally,
                patience=patience,
                name_batch=name_batch,
                should_end=stop.is_due,
                meta=data_meta,
            )
            checkpoints.wait()
            step, number = int(state.step), stop.obeyed()
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
def _output(is_first: bool) -> Generator[TextIO]:
    """Yields what a run's progress is printed to: by one process of several."""
    with contextlib.ExitStack() as stack:
        silent = None if is_first else stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        yield silent or sys.stdout


@contextlib.contextmanager
def _metrics(workdir: Path, last_kept: int, is_first: bool) -> Generator[Metrics | None]:
    """Yields the file that the lines of metrics are written to, by one process of several."""
    with contextlib.ExitStack() as stack:
        with mistakes():
            metrics = Metrics(workdir / "metrics.jsonl", last_kept) if is_first else None
        yield stack.enter_context(metrics) if metrics else None


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


def _make_mesh(config: build.Config) -> Mesh:
    """Returns the mesh of the settings, which the model fits but for the vocabulary's size."""
    mesh = make_mesh(**config["parallel"])
    if mesh.size > 1:
        # Found before the corpus and the vocabulary, which may take long.
        fitting = mesh.size * config["model"]["vocab_multiple"]
        state_shardings(abstract_params(build.make_model(config, fitting)), mesh)
    return mesh


def _make_validate(
    config: build.Config, model: Transformer, text: TrainingData, mesh: Mesh
) -> Validate | None:
    if text.valid is None or not len(text.valid):
        return None
    eval_step = jax.jit(make_eval_step(model, tokens_at_a_time(platform_of(mesh))))
    tokens = config["data"]["target_tokens"]
    batches = list(eval_batches(text.valid, tokens, num_shares(mesh)))

    def validate(params: Params) -> dict[str, float]:
        placed = (place_batch(batch, mesh) for batch in batches)
        return valid_fields(likelihood(eval_step, params, placed))

    return validate


def _describe_end(workdir: Path, step: int, patience: Patience) -> str:
    return (
        f"{workdir} ended at step {step:,}: the last {patience.waited} evaluations brought "
        f"nothing, and train.patience is {patience.limit}."
    )


def _describe_model(model: Transformer, mesh: Mesh, allocator: str) -> str:
    kind = mesh.devices.flat[0].device_kind
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    devices = f"Device: {kind}" if mesh.size == 1 else f"Devices: {mesh.size} {kind}, {axes}"
    return (
        f"Model: {count_parameters(model):,} parameters, {model.vocab_size:,} word pieces. "
        f"{devices}. Allocator: {allocator}."
    )
