"""Starting trainings that go together in one program, or going on with them."""

import contextlib
import dataclasses
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxformer.cli import build, settings
from jaxformer.cli.groundwork import (
    MAY_CHANGE,
    abstract_batch,
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
from jaxformer.cli.hosts import find_on_cloud_tpu
from jaxformer.cli.mistakes import Mistake, Stopped, describe, file_mistakes, mistakes
from jaxformer.cli.workdir import held
from jaxformer.data.batching import possible_shapes
from jaxformer.data.pipeline import eval_batches, train_batches
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.record import Metrics, read_metrics, write_config, write_run
from jaxformer.loss import tokens_at_a_time
from jaxformer.model import Transformer
from jaxformer.population import (
    device_of,
    make_mesh,
    make_population_eval,
    make_population_step,
    num_rows,
)
from jaxformer.run.allocator import keep_freed_memory
from jaxformer.run.compilation import enable_cache
from jaxformer.run.evaluation import likelihoods
from jaxformer.run.patience import Patience
from jaxformer.run.population import Member, ValidateAll
from jaxformer.run.population import train_population as run_loop
from jaxformer.run.preparation import TrainingData, tokenizer_folder
from jaxformer.run.progress import Progress
from jaxformer.run.restoring import checkpoints_path, count_parameters
from jaxformer.run.signals import noted_signals
from jaxformer.run.tally import Tally
from jaxformer.run.training import Journal, resume_point
from jaxformer.study.grouping import MAY_DIFFER, differences
from jaxformer.train import Hyper, make_eval_step

# For what a machine of Google's knows of itself.
_SECONDS_TO_ASK = 60


class Training(NamedTuple):
    """What `jaxformer train` would be given.

    Attributes:
      config: resolved settings, checked.
      workdir: a folder of its own.
      argv, overrides: for its record.
    """

    config: build.Config
    workdir: Path
    argv: Sequence[str]
    overrides: Mapping[str, Any]


def train_population(trainings: Sequence[Training]) -> list[str]:
    """Trains all of them together, each in a new workdir or in one that holds the same run.

    Each workdir ends up as if its training had gone alone (parameters equal to rounding), and can
    be evaluated, translated with, and gone on with alone. Started again, those that have ended are
    left as they are and the others go on; on the same devices and with the same trainings, in the
    same order, they end with the same bits as if they had never been stopped. `seconds` in a line
    of metrics are those of the whole population.

    A training whose loss or gradient is no longer finite is given up, and the others go on. Its
    last line of metrics has the field `diverged_at`, that step, and its checkpoints are older.

    Args:
      trainings: one group of `jaxformer.study.grouping.group`.

    Returns: for each, "" if it is trained to the end, or why not, a sentence.
    Raises: Mistake for what the user can mend; nothing is written to a workdir before all that any
      of them depends on has been read and checked. Stopped at a signal, after a last checkpoint.
    """
    trainings = [Training(*training) for training in trainings]
    with contextlib.ExitStack() as stack:
        with mistakes():
            _check_group(trainings)
        for training in trainings:
            stack.enter_context(held(training.workdir))
        return _train_held(trainings)


def check_mapped(config: build.Config) -> None:
    """Finds out whether the model can be trained for several members at once, which not all can.

    An attention function may be a kernel that jax has no form of for many. A model of one layer a
    side is traced, without any text.

    Raises: Mistake if it cannot; whatever tracing raises if one member alone cannot be trained
      either.
    """
    small = {**config["model"], "num_encoder_layers": 1, "num_decoder_layers": 1}
    model = build.make_model({**config, "model": small}, config["data"]["vocab_size"])
    train_step, make_state = make_pure(config, model, jax.default_backend())
    data = config["data"]
    shape, *_ = possible_shapes(
        data["max_length"],
        data["source_tokens"],
        data["target_tokens"],
        rows_multiple=config["train"]["accumulate"],
    )
    one = jax.eval_shape(make_state, np.int64(0), Hyper.create()), abstract_batch(shape)
    two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), one)
    try:
        jax.eval_shape(jax.vmap(train_step), *two)
    except (NotImplementedError, TypeError, ValueError) as error:
        jax.eval_shape(train_step, *one)
        raise Mistake(
            f"The members of a population cannot share a program here, since jax.vmap fails on "
            f"the model ({describe(error)}). Leave --population out; if it is "
            f"model.attention={config['model']['attention']}, another one may do."
        ) from error


def _train_held(trainings: Sequence[Training]) -> list[str]:
    allocator = keep_freed_memory()
    enable_cache()
    with mistakes():
        config = trainings[0].config
        found = [look_into(training.workdir, training.config) for training in trainings]
        ends = [_diverged_at(training.workdir) for training in trainings]
        begun = {
            training.workdir: meta
            for training, (_, meta, _) in zip(trainings, found, strict=True)
            if meta is not None
        }
        tokenizer, text = prepare(config, begun)
        data_meta = make_meta(tokenizer, text)
        model = build.make_model(config, tokenizer.vocab_size)
        train_step, make_state = make_pure(config, model, jax.default_backend())
        abstract_state = check_traces(train_step, make_state, text)

    # Of all trainings, ended ones too: a program of other rows might differ in its last bits.
    make_state = jax.jit(make_state)
    mesh = make_mesh(len(trainings))
    rows = num_rows(len(trainings), mesh)
    num_steps = config["train"]["num_steps"]
    cadence, validate = make_cadence(config), _make_validate(config, model, text, mesh)
    if validate is None:
        cadence = dataclasses.replace(cadence, eval_every=0)
    members: dict[int, Member] = {}
    # A full disk fails the save of every member, and the last of them is told while closing.
    with file_mistakes(), contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(sys.stdout, num_steps))
        opened: list[Checkpoints] = []
        with mistakes():
            for number, (training, (step, meta, faults)) in enumerate(
                zip(trainings, found, strict=True)
            ):
                if ends[number] or step >= num_steps:
                    continue
                workdir, keep = training.workdir, training.config["train"]["keep_checkpoints"]
                checkpoints = Checkpoints(checkpoints_path(workdir), keep=keep)
                opened.append(stack.enter_context(checkpoints))
                device = device_of(number, mesh, rows)
                if meta is None:
                    state = jax.device_put(make_state(*of_run(training.config)), device)
                    tally, last_kept, patience = Tally(), 0, Patience(0)
                    tokenizer.save(tokenizer_folder(workdir))
                else:
                    for damaged, fault in faults.items():
                        path = checkpoints.set_aside(damaged)
                        progress.say(describe_damage(damaged, fault, path))
                    state = jax.device_put(checkpoints.restore(abstract_state, step), device)
                    tally, last_kept = resume_point(meta, step)
                    patience = restored_patience(0, meta, data_meta, checkpoints)
                write_config(workdir, training.config, MAY_CHANGE, settings.complete)
                seed = training.config["train"]["seed"]
                write_run(
                    workdir,
                    argv=training.argv,
                    overrides=training.overrides,
                    seeds={"train": seed},
                    allocator=allocator,
                    mesh=mesh.shape,
                )
                metrics_file = Metrics(workdir / "metrics.jsonl", last_kept)
                journal = Journal(
                    cadence,
                    checkpoints=checkpoints,
                    metrics_file=stack.enter_context(metrics_file),
                    tally=tally,
                    meta=data_meta,
                )
                members[number] = Member(str(workdir), seed, step, state, journal, patience)
        _say_what_starts(progress, model, members, rows=rows, devices=mesh.size, of=len(trainings))
        progress.say(describe_text(text, config["data"]["max_length"]))
        if members:
            progress.wait("Compiling (the next start will find the programs in the cache)")
            with (
                file_mistakes(),
                _told_where_to_go_on(opened),
                noted_signals() as noted_signal,
            ):
                run_loop(
                    jax.jit(make_population_step(train_step, mesh), donate_argnums=0),
                    list(members.values()),
                    lambda seed, step: train_batches(text.train, text.plan, seed, step),
                    cadence,
                    mesh=mesh,
                    rows=rows,
                    progress=progress,
                    validate=validate,
                    should_end=lambda: noted_signal() is not None,
                )
                for checkpoints in opened:
                    checkpoints.wait()
                number = noted_signal()
            rest = [
                member.step
                for member in members.values()
                if not member.diverged_at and member.step < num_steps
            ]
            if number is not None:
                where = f"after step {min(rest):,}" if rest else "when all were trained"
                raise Stopped(
                    f"Stopped by {number.name} {where}. All is saved: started again, what is left "
                    "goes on from there.",
                    number,
                )
        for number, member in members.items():
            ends[number] = member.diverged_at
        outcomes = [
            f"It diverged at step {step:,}: loss or gradient was not finite." if step else ""
            for step in ends
        ]
        for training, outcome in zip(trainings, outcomes, strict=True):
            progress.say(f"{training.workdir}: {outcome or f'Trained to step {num_steps:,}.'}")
    return outcomes


@contextlib.contextmanager
def _told_where_to_go_on(runs: Sequence[Checkpoints]) -> Generator[None]:
    """Gives an interruption the words that its user needs."""
    try:
        yield
    except KeyboardInterrupt:
        steps = [checkpoints.latest_step() or 0 for checkpoints in runs]
        raise KeyboardInterrupt(
            "Interrupted. Started again, each training goes on from its newest checkpoint; they "
            f"are of steps {min(steps):,} to {max(steps):,} (0: none yet)."
        ) from None


def check_alone() -> None:
    """Finds out whether this process is one of several that compute as one.

    Raises: Mistake if it is.
    """
    # Asked first: on one host of several, jax waits for the others.
    company = find_on_cloud_tpu(_SECONDS_TO_ASK)
    if (count := company[1] if company else jax.process_count()) > 1:
        raise Mistake(
            f"A population is trained by one process, and this is one of {count}. Train it on a "
            "single host, whose devices it takes all, or leave --population out."
        )


def _check_group(trainings: Sequence[Training]) -> None:
    if not trainings:
        raise Mistake("There is no training to start. Name at least one.")
    check_alone()
    workdirs = [training.workdir.absolute() for training in trainings]
    twice = sorted({str(workdir) for workdir in workdirs if workdirs.count(workdir) > 1})
    if twice:
        raise Mistake(f"{twice[0]} is the workdir of two trainings. Give each its own.")
    keys = differences([training.config for training in trainings])
    if keys:
        raise Mistake(
            f"Trainings that differ in {', '.join(keys)} cannot go together in one program; what "
            f"may differ is {', '.join(MAY_DIFFER)}. Group them."
        )
    parallel = trainings[0].config["parallel"]
    if parallel["data"] != -1 or parallel["fsdp"] != 1 or parallel["tensor"] != 1:
        told = ", ".join(f"parallel.{axis}={size}" for axis, size in parallel.items())
        raise Mistake(
            f"{told}: the members of a population are spread over the devices, and none of them is "
            "spread itself. Set parallel.data=-1, parallel.fsdp=1 and parallel.tensor=1."
        )
    if patience := trainings[0].config["train"]["patience"]:
        raise Mistake(
            f"train.patience={patience} may end some trainings before others, which those of one "
            "program cannot. Set train.patience=0."
        )
    check_mapped(trainings[0].config)


def _diverged_at(workdir: Path) -> int:
    """Returns the step at which a training has been given up, 0 if it has not."""
    path = workdir / "metrics.jsonl"
    rows = read_metrics(path) if path.is_file() else []
    return int(rows[-1].get("diverged_at", 0)) if rows else 0


def _make_validate(
    config: build.Config, model: Transformer, text: TrainingData, mesh: jax.sharding.Mesh
) -> ValidateAll | None:
    if text.valid is None or not len(text.valid):
        return None
    eval_step = jax.jit(
        make_population_eval(make_eval_step(model, tokens_at_a_time(jax.default_backend())), mesh)
    )
    batches = list(eval_batches(text.valid, config["data"]["target_tokens"]))
    return lambda params: [valid_fields(each) for each in likelihoods(eval_step, params, batches)]


def _say_what_starts(
    progress: Progress,
    model: Transformer,
    members: Mapping[int, Member],
    *,
    rows: int,
    devices: int,
    of: int,
) -> None:
    progress.say(
        f"Population: {len(members)} of {of} trainings are to go on, {rows} rows on {devices} "
        f"{jax.local_devices()[0].device_kind}. Model: {count_parameters(model):,} parameters, "
        f"{model.vocab_size:,} word pieces."
    )
    steps = sorted({member.step for member in members.values()})
    if steps and steps[-1]:
        progress.say(f"Going on from step {', '.join(f'{step:,}' for step in steps)}.")
