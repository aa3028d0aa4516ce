"""Trainings that go together in one program end as they would have ended alone."""

import json
import os
import re
import shutil
import signal
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.cli import config as config_lib
from jaxformer.cli import start_population
from jaxformer.cli.groundwork import prepare
from jaxformer.cli.mistakes import Mistake, Stopped
from jaxformer.cli.start_population import Training, check_mapped, train_population
from jaxformer.cli.sweep import _train_together
from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.record import Metrics
from tests.cli.test_resume import lines_of, state_of

STEPS = 20
# Every interval ends elsewhere, and a checkpoint stands between two lines.
CADENCE = [
    f"--config.train.num_steps={STEPS}",
    "--config.train.log_every=4",
    "--config.train.eval_every=6",
    "--config.train.checkpoint_every=5",
    # Not ReLU, whose gradient jumps where rounding decides.
    "--config.model.activation=jax.nn:gelu",
]
MEMBERS = {
    "plain": [],
    "other": [
        "--config.train.seed=1",
        "--config.train.dropout_rate=0.3",
        "--config.train.label_smoothing=0.0",
        "--config.optimizer.learning_rate=0.5",
        "--config.optimizer.warmup_steps=9",
    ],
    "diverging": ["--config.optimizer.learning_rate=1e30"],
}
SOUND = [name for name in MEMBERS if name != "diverging"]


@pytest.fixture(scope="module")
def training(tiny):
    """Returns the function that makes a Training of a workdir and further arguments."""

    def make(workdir, *more):
        argv = [*tiny[1:], *CADENCE, *more]
        spec, assignments, _ = config_lib.split_arguments(argv)
        config = config_lib.load(spec)
        overrides = config_lib.override(config, assignments)
        return Training(config.to_dict(), workdir, ["jaxformer", "train", *argv], overrides)

    return make


@pytest.fixture(scope="module")
def start(training):
    """Returns the function that trains all members in a folder."""

    def run(folder):
        return train_population([training(folder / name, *MEMBERS[name]) for name in MEMBERS])

    return run


@pytest.fixture(scope="module")
def population(start, tmp_path_factory):
    """Returns the folder of a population that was trained without a stop, and what came of it."""
    folder = tmp_path_factory.mktemp("population")
    return folder, start(folder)


@pytest.fixture(scope="module", params=SOUND)
def alone(request, tiny, jaxformer, tmp_path_factory):
    """Returns the folder, called as the member, of a training that went alone."""
    workdir = tmp_path_factory.mktemp("alone") / request.param
    result = jaxformer(*tiny, *CADENCE, *MEMBERS[request.param], f"--workdir={workdir}")
    assert result.code == 0, result.err
    return workdir


def params_of(workdir, step=STEPS):
    return {
        path: np.frombuffer(data, np.float32)
        for path, data in state_of(workdir, step).items()
        if path.startswith("['params']")
    }


def test_both_shapes_of_batches_are_met(training, tmp_path):
    config = training(tmp_path).config
    _, text = prepare(config, {})
    shapes = [batch.shape for batch in text.plan.epoch(seed=0, epoch=0)[:STEPS]]
    assert len(set(shapes)) == 2


@pytest.mark.slow
def test_a_member_ends_as_it_would_alone(population, alone):
    folder, _ = population
    together, solo = params_of(folder / alone.name), params_of(alone)
    assert together.keys() == solo.keys()
    for path, expected in solo.items():
        error = np.linalg.norm(together[path] - expected) / np.linalg.norm(expected)
        assert error <= 1e-4, path


@pytest.mark.slow
def test_its_lines_are_those_of_a_run_alone(population, alone):
    folder, _ = population
    together, solo = lines_of(folder / alone.name), lines_of(alone)
    assert [row["step"] for row in together] == [4, 6, 8, 12, 16, 18, 20]
    for row, expected in zip(together, solo, strict=True):
        assert row.keys() == expected.keys()
        for field, value in expected.items():
            assert row[field] == pytest.approx(value, rel=1e-4), field


@pytest.mark.slow
def test_its_workdir_is_that_of_a_run_alone(population, alone):
    together = population[0] / alone.name
    for known in ("config.json", "tokenizer/sentencepiece.model"):
        assert (together / known).read_bytes() == (alone / known).read_bytes()

    def record(workdir):
        (start,) = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["starts"]
        argv = [argument for argument in start.pop("argv") if "workdir" not in argument]
        return argv, {key: start[key] for key in start if key not in ("time", "mesh")}

    def names(workdir):
        patterns = ("*", "tokenizer/*", "checkpoints/*/*")
        return [
            sorted(str(path.relative_to(workdir)) for path in workdir.glob(pattern))
            for pattern in patterns
        ]

    def meta(workdir):
        with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
            return checkpoints.read_meta(15)

    assert record(together) == record(alone)
    assert names(together) == names(alone)
    assert meta(together).keys() == meta(alone).keys()
    assert meta(together)["data"] == meta(alone)["data"]
    # A checkpoint between two lines remembers the steps since the last.
    assert meta(together)["tally"]["steps"] == meta(alone)["tally"]["steps"] == 3
    assert meta(together)["patience"]["waited"] == meta(alone)["patience"]["waited"]
    assert meta(together)["patience"]["best"] == pytest.approx(meta(alone)["patience"]["best"])


@pytest.mark.slow
def test_a_member_that_diverges_is_given_up_and_says_so(population):
    folder, outcomes = population
    assert outcomes == ["", "", "It diverged at step 2: loss or gradient was not finite."]
    (row,) = lines_of(folder / "diverging")
    assert (row["step"], row["diverged_at"], row["loss"]) == (2, 2, "nan")
    assert list((folder / "diverging" / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_a_population_that_was_stopped_goes_on_as_if_it_had_not_been(
    start, population, tmp_path, monkeypatch
):
    unbroken, _ = population
    save = Checkpoints.save

    def interrupt(self, state, **fields):
        # One member has saved step 10 by then, and the other has not.
        if int(state.step) == 10 and "other" in self.directory:
            raise KeyboardInterrupt
        save(self, state, **fields)

    monkeypatch.setattr(Checkpoints, "save", interrupt)
    with pytest.raises(KeyboardInterrupt, match="they are of steps 0 to 10 .0: none yet"):
        start(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "plain" / "checkpoints" / "10").exists()
    before = (tmp_path / "diverging" / "run.json").read_bytes()
    assert start(tmp_path) == ["", "", "It diverged at step 2: loss or gradient was not finite."]
    for name in SOUND:
        assert lines_of(tmp_path / name) == lines_of(unbroken / name)
        assert state_of(tmp_path / name, STEPS) == state_of(unbroken / name, STEPS)
    assert lines_of(tmp_path / "diverging") == lines_of(unbroken / "diverging")
    assert (tmp_path / "diverging" / "run.json").read_bytes() == before


@pytest.mark.slow
def test_a_signal_saves_every_member_and_says_where_they_go_on(
    start, population, tmp_path, monkeypatch
):
    unbroken, _ = population
    write, sent = Metrics.write, []

    def send(self, row):
        write(self, row)
        # A second one would end the process at once.
        if row["step"] == 8 and not sent:
            sent.append(row)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Metrics, "write", send)
    with pytest.raises(Stopped, match="Stopped by SIGTERM after step 1[01]. All is saved"):
        start(tmp_path)
    monkeypatch.undo()
    assert start(tmp_path)[:2] == ["", ""]
    for name in SOUND:
        assert lines_of(tmp_path / name) == lines_of(unbroken / name)
        assert state_of(tmp_path / name, STEPS) == state_of(unbroken / name, STEPS)


@pytest.mark.slow
def test_a_population_that_has_ended_is_left_as_it_is(start, population, capsys):
    folder, outcomes = population
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert start(folder) == outcomes
    assert "Population: 0 of 3 trainings are to go on" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_member_is_evaluated_and_gone_on_with_alone(population, tiny, jaxformer, tmp_path):
    folder, _ = population
    shutil.copytree(folder / "plain", tmp_path / "plain")
    result = jaxformer("evaluate", f"--workdir={tmp_path / 'plain'}", "--num_beams=1")
    assert (result.code, result.err) == (0, "")
    more = ["--config.train.num_steps=21", f"--workdir={tmp_path / 'plain'}"]
    result = jaxformer(*tiny, *CADENCE, *MEMBERS["plain"], *more)
    assert (result.code, result.err) == (0, "")
    assert "Going on from step 20 of 21." in result.out
    assert lines_of(tmp_path / "plain")[:-1] == lines_of(folder / "plain")


def refused(trainings, message):
    with pytest.raises(Mistake, match=message):
        train_population(trainings)
    for training in trainings:
        assert not training.workdir.exists()


def test_what_cannot_go_together_is_refused(training, tmp_path):
    refused([], "no training to start")
    two = [tmp_path / "one", tmp_path / "two"]
    refused(
        [training(two[0]), training(two[1], "--config.model.d_ff=20")],
        "Trainings that differ in model.d_ff cannot go together in one program",
    )
    patient = "--config.train.patience=3"
    refused([training(one, patient) for one in two], "train.patience=3 may end some trainings")
    spread = "--config.parallel.tensor=2"
    refused(
        [training(one, spread) for one in two],
        "parallel.data=-1, parallel.fsdp=1, parallel.tensor=2: the members of a population",
    )
    refused([training(two[0]), training(two[0])], "one is the workdir of two trainings")


FUSED = [
    "--config.model.attention=jaxformer.model:fused_attention",
    "--config.model.dtype=bfloat16",
]
NOT_MAPPED = (
    r"The members of a population cannot share a program here, since jax.vmap fails on the model "
    r"\(cannot reshape .*\). Leave --population out; if it is "
    r"model.attention=jaxformer.model:fused_attention, another one may do."
)


def test_an_attention_that_is_only_for_one_is_refused(training, tmp_path, as_on_a_gpu):
    refused([training(tmp_path / name, *FUSED) for name in ("one", "two")], NOT_MAPPED)


def test_a_sweep_of_it_ends_before_anything_is_trained(tiny, jaxformer, tmp_path, as_on_a_gpu):
    sweep = ["sweep", *tiny[1:], f"--workdir={tmp_path}", "--population"]
    result = jaxformer(*sweep, *FUSED, "--sweep", "train.seed=0,1")
    assert result.code == 2
    assert re.fullmatch(f"jaxformer: {NOT_MAPPED}\n", result.err)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_members_that_cannot_be_trained_alone_are_left_to_say_so(training, tmp_path, monkeypatch):
    def fail(*_):
        raise TypeError("no step at all")

    monkeypatch.setattr(start_population, "check_mapped", fail)
    monkeypatch.setattr(start_population, "train_population", pytest.fail)
    members = [SimpleNamespace(config=training(tmp_path).config) for _ in range(2)]
    assert _train_together(members, tmp_path, 2) == {}


def test_the_kernel_of_tpus_is_for_several(training, tmp_path):
    check_mapped(
        training(tmp_path, "--config.model.attention=jaxformer.model:splash_attention").config
    )


def test_what_keeps_one_alone_from_being_trained_is_said_as_it_is(training, tmp_path, monkeypatch):
    def fail(state, batch):
        raise ValueError("no step at all")

    pure = fail, lambda seed, hyper: jnp.zeros(2)
    monkeypatch.setattr(start_population, "make_pure", lambda *arguments: pure)
    with pytest.raises(ValueError, match="no step at all"):
        check_mapped(training(tmp_path).config)


@pytest.mark.parametrize("is_found_by_jax", [False, True])
def test_one_host_of_several_is_refused(
    tiny, jaxformer, training, tmp_path, monkeypatch, is_found_by_jax
):
    company = None if is_found_by_jax else (("10.0.0.5", 8476), 4, 1)
    monkeypatch.setattr(start_population, "find_on_cloud_tpu", lambda timeout: company)
    monkeypatch.setattr(jax, "process_count", lambda: 4 if is_found_by_jax else 1)
    told = (
        "A population is trained by one process, and this is one of 4. Train it on a single host, "
        "whose devices it takes all, or leave --population out."
    )
    refused([training(tmp_path / name) for name in ("one", "two")], told)
    workdir = tmp_path / "sweep"
    sweep = ["sweep", *tiny[1:], f"--workdir={workdir}", "--population"]
    result = jaxformer(*sweep, "--sweep", "train.seed=0,1")
    assert (result.code, result.err) == (2, f"jaxformer: {told}\n")
    assert [path.name for path in workdir.iterdir()] == ["manifest.json"]


@pytest.mark.slow
def test_a_workdir_of_another_run_is_refused_and_nothing_is_written(population, training, tmp_path):
    folder, _ = population
    with pytest.raises(Mistake, match="holds a run with other settings: train.seed is 0 there"):
        train_population(
            [
                training(tmp_path / "new"),
                training(folder / "plain", "--config.train.seed=8"),
            ]
        )
    assert not (tmp_path / "new").exists()
