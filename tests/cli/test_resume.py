"""A training that was stopped goes on as if it had not been."""

import json
import os
import shutil
import signal
import socket
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxformer.io.checkpoint import Checkpoints
from jaxformer.io.lock import lock
from jaxformer.io.record import Metrics
from jaxformer.run import training
from tests.cli.conftest import STEPS


def lines_of(workdir):
    """Returns the lines of metrics, less the time that they took."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_bytes().splitlines()]
    for row in rows:
        assert row.pop("seconds") > 0
    return rows


def steps_of(workdir):
    """Returns the steps of the checkpoints there are."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def state_of(workdir, step=STEPS):
    """Returns the bytes of everything in a checkpoint, by path."""
    with (
        warnings.catch_warnings(action="ignore", category=UserWarning),
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader,
    ):
        # It warns that the arrays go to the devices that they were saved from.
        tree = reader.restore((workdir / "checkpoints" / str(step) / "state").absolute())
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): bytes_of(leaf) for path, leaf in leaves}


def bytes_of(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def test_the_unbroken_run_has_all_lines(unbroken):
    assert [row["step"] for row in lines_of(unbroken)] == [4, 6, 8, 11]
    assert ["valid_nll" in row for row in lines_of(unbroken)] == [False, True, False, False]


def test_the_same_settings_give_the_same_run_twice(train, unbroken, tmp_path):
    assert train(tmp_path / "run").code == 0
    assert lines_of(tmp_path / "run") == lines_of(unbroken)
    assert state_of(tmp_path / "run") == state_of(unbroken)


def test_a_run_made_longer_equals_the_unbroken_one(train, unbroken, tmp_path):
    workdir = tmp_path / "run"
    assert train(workdir, 5).code == 0
    # Of an incomplete interval: it is written anew.
    assert lines_of(workdir)[-1]["step"] == 5
    # As if it had been begun before there was a choice of the penalty.
    config = json.loads((workdir / "config.json").read_bytes())
    del config["decode"]["length_penalty"]
    (workdir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    result = train(workdir)
    assert result.code == 0
    assert "Going on from step 5 of 11." in result.out
    assert lines_of(workdir) == lines_of(unbroken)
    assert state_of(workdir) == state_of(unbroken)


def test_an_interrupted_run_equals_the_unbroken_one(train, unbroken, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    write = Metrics.write

    def interrupt(self, row):
        if row["step"] == 8:
            raise KeyboardInterrupt
        write(self, row)

    monkeypatch.setattr(Metrics, "write", interrupt)
    result = train(workdir)
    assert result.code == 130
    assert result.err == (
        "jaxformer: Interrupted. The same command goes on from step 6, the newest checkpoint in "
        f"{workdir / 'checkpoints'}.\n"
    )
    monkeypatch.undo()
    result = train(workdir)
    assert "Going on from step 6 of 11." in result.out
    assert lines_of(workdir) == lines_of(unbroken)
    assert state_of(workdir) == state_of(unbroken)


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 4), (signal.SIGTERM, 5)])
def test_a_signal_saves_and_the_rest_equals_the_unbroken_run(
    train, unbroken, tmp_path, monkeypatch, number, step
):
    workdir = tmp_path / "run"
    training_steps = training.training_steps

    def with_a_signal(*args):
        for state, metrics in training_steps(*args):
            if int(state.step) == step:
                os.kill(os.getpid(), number)
            yield state, metrics

    monkeypatch.setattr(training, "training_steps", with_a_signal)
    result = train(workdir)
    assert result.code == 128 + number
    assert result.err == (
        f"jaxformer: Stopped by {number.name} after step {step}, which is saved: the same command "
        "goes on from there.\n"
    )
    assert [row["step"] for row in lines_of(workdir)] == [4]
    monkeypatch.undo()
    assert f"Going on from step {step} of 11." in train(workdir).out
    assert lines_of(workdir) == lines_of(unbroken)
    assert state_of(workdir) == state_of(unbroken)
    assert steps_of(workdir) == steps_of(unbroken)


def test_a_signal_at_the_last_step_is_an_ordinary_end(train, unbroken, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    save = Checkpoints.save

    def with_a_signal(self, state, **options):
        if int(state.step) == STEPS:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, state, **options)

    monkeypatch.setattr(Checkpoints, "save", with_a_signal)
    result = train(workdir)
    assert (result.code, result.err) == (0, "")
    assert lines_of(workdir) == lines_of(unbroken)


def test_the_best_checkpoint_is_known_and_read(unbroken, jaxformer, tmp_path):
    best = ["--config.decode.average=1", "--config.decode.checkpoint=best", "--num_beams=1"]
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    result = jaxformer("evaluate", f"--workdir={workdir}", "--split=valid", *best)
    assert result.code == 0, result.err
    scores = json.loads((workdir / "evaluation" / "valid.json").read_bytes())
    assert scores["checkpoints"] == [6]
    [row] = [row for row in lines_of(workdir) if row["step"] == 6]
    assert scores["nll"] == pytest.approx(row["valid_nll"], rel=1e-6)


def test_a_finished_run_is_left_as_it_is(train, unbroken):
    before = (unbroken / "metrics.jsonl").read_bytes()
    settings = (unbroken / "config.json").read_bytes()
    # Fewer than there are: nothing is done, so the settings are still those of what was done.
    assert train(unbroken, 10).code == 0
    assert (unbroken / "config.json").read_bytes() == settings
    result = train(unbroken)
    assert (result.code, result.err) == (0, "")
    assert "is trained to step 11 already. Raise train.num_steps to go on." in result.out
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_another_seed_gives_another_run(train, unbroken, tmp_path):
    assert train(tmp_path / "run", 4, "--config.train.seed=1").code == 0
    assert lines_of(tmp_path / "run")[0]["loss"] != lines_of(unbroken)[0]["loss"]


def test_a_workdir_in_use_is_refused(train, unbroken):
    before = {path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file()}
    with lock(unbroken):
        result = train(unbroken, 12)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"jaxformer: {unbroken} is in use by process {os.getpid()} on {socket.gethostname()}. Wait "
        "for its end, or give another --workdir.\n"
    )
    assert {path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file()} == before


def test_another_config_is_refused_and_nothing_is_lost(train, unbroken):
    before = {path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file()}
    result = train(unbroken, STEPS, "--config.train.seed=3", "--config.model.d_ff=20")
    assert result.code == 2
    assert result.err == (
        f"jaxformer: {unbroken} holds a run with other settings: model.d_ff is 24 there and 20 "
        "here; train.seed is 0 there and 3 here. Give another --workdir, or the same settings.\n"
    )
    assert {path: path.read_bytes() for path in unbroken.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("what", ["text", "missing vocabulary", "another vocabulary"])
def test_what_the_run_was_trained_on_must_be_there(train, unbroken, corpus, tmp_path, what):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    vocabulary = workdir / "tokenizer" / "sentencepiece.model"
    if what == "text":
        path = corpus / "train.target"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("bee", "can", 1), encoding="utf-8")
        try:
            result = train(workdir, 12)
        finally:
            path.write_text(text, encoding="utf-8")
        message = f"The training text has changed since {workdir} was trained on it."
    elif what == "missing vocabulary":
        vocabulary.unlink()
        result = train(workdir, 12)
        message = (
            f"{vocabulary.parent} holds no vocabulary (sentencepiece.model or moses_bpe.json or "
            "brackets.json), and the checkpoints beside it are of no use without it."
        )
    else:
        from jaxformer.data.sentence_piece import train_sentence_piece

        train_sentence_piece(["some other text " * 9, "and more"], 275).save(vocabulary.parent)
        result = train(workdir, 12)
        message = f"{vocabulary} is not the vocabulary that the checkpoints were trained with."
    assert result.code == 2
    assert result.err.startswith(f"jaxformer: {message}")
    assert result.err.count("\n") == 1
    assert lines_of(workdir) == lines_of(unbroken)
    for name in ("config.json", "run.json"):
        assert (workdir / name).read_bytes() == (unbroken / name).read_bytes()


def test_checkpoints_without_their_settings_are_refused(train, unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    (workdir / "config.json").unlink()
    result = train(workdir, 12)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"jaxformer: {workdir} holds checkpoints but no config.json, so that their settings are "
        "unknown. Restore it, or give another --workdir.\n"
    )
    assert not (workdir / "config.json").exists()


LINEAR = "--config.optimizer.schedule=jaxformer.optim:linear_rate"
NOAM = "--config.optimizer.schedule=jaxformer.optim:noam_rate"
COOLDOWN = "--config.optimizer.schedule=jaxformer.optim:cooldown_rate"
WARM_UP = "--config.optimizer.warmup_steps=3"

# (steps done, by what; steps wanted, by what; the message).
OTHER_RATES = {
    "a run is to be longer": (
        5,
        [LINEAR, WARM_UP],
        8,
        [LINEAR, WARM_UP],
        "train.num_steps is 5 in {workdir} and 8 here, and jaxformer.optim:linear_rate ends with "
        "the run: the steps already done would have had other rates from step 4 of 5 on. Give "
        "another --workdir, or train.num_steps=5, or go on in a copy without its checkpoints from "
        "step 4 on.",
    ),
    "another schedule": (
        5,
        [NOAM],
        5,
        [COOLDOWN],
        "optimizer.schedule is jaxformer.optim:noam_rate in {workdir} and "
        "jaxformer.optim:cooldown_rate here: the steps already done would have had other rates "
        "from step 5 of 5 on. Give another --workdir, or "
        "optimizer.schedule=jaxformer.optim:noam_rate, or go on in a copy without its checkpoints "
        "from step 5 on.",
    ),
    # They differ in the fifth step alone.
    "another schedule, and longer": (
        5,
        [COOLDOWN],
        8,
        [NOAM],
        "optimizer.schedule is jaxformer.optim:cooldown_rate in {workdir} and "
        "jaxformer.optim:noam_rate here, train.num_steps is 5 in {workdir} and 8 here: the steps "
        "already done would have had other rates from step 5 of 5 on. Give another --workdir, or "
        "optimizer.schedule=jaxformer.optim:cooldown_rate and train.num_steps=5, or go on in a "
        "copy without its checkpoints from step 5 on.",
    ),
    # The first step's rate is the peak, and the fourth's half of that, by either.
    "another schedule, with the same rate in the last step done": (
        4,
        [NOAM, "--config.optimizer.warmup_steps=1"],
        6,
        [LINEAR, "--config.optimizer.warmup_steps=1"],
        "optimizer.schedule is jaxformer.optim:noam_rate in {workdir} and "
        "jaxformer.optim:linear_rate here, train.num_steps is 4 in {workdir} and 6 here: the steps "
        "already done would have had other rates from step 2 of 4 on. Give another --workdir, or "
        "optimizer.schedule=jaxformer.optim:noam_rate and train.num_steps=4, or go on in a copy "
        "without its checkpoints from step 2 on.",
    ),
}


@pytest.mark.parametrize(
    ("done", "first", "steps", "then", "message"), OTHER_RATES.values(), ids=OTHER_RATES
)
def test_what_would_have_given_the_steps_already_done_other_rates_is_refused(
    done, first, steps, then, message, train, tmp_path
):
    workdir = tmp_path / "run"
    assert train(workdir, done, *first).code == 0
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    result = train(workdir, steps, *then)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {message.format(workdir=workdir)}\n"
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "optimizer.schedule",
            "gone_from_here:rate",
            "optimizer.schedule='gone_from_here:rate': there is no module 'gone_from_here'. "
            "Correct the name, or put the module's folder on PYTHONPATH.",
        ),
        ("optimizer.schedule", 5, "optimizer.schedule=5 is out of range."),
        ("train.num_steps", "many", "train.num_steps='many' is out of range."),
    ],
)
def test_what_the_workdirs_own_settings_may_not_be_is_one_sentence(
    key, value, message, train, unbroken, tmp_path
):
    path = shutil.copytree(unbroken, tmp_path / "run") / "config.json"
    settings = json.loads(path.read_text())
    group, _, name = key.partition(".")
    settings[group][name] = value
    path.write_text(json.dumps(settings))
    result = train(tmp_path / "run", STEPS, NOAM)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"jaxformer: In {path}, {message}")
    assert result.err.count("\n") == 1


def test_a_schedule_that_bears_no_vmap_may_be_made_longer(train, tmp_path, monkeypatch):
    (tmp_path / "by_hand.py").write_text(
        "import jax\nimport jax.numpy as jnp\n"
        "def rate(step, *, d_model, warmup_steps, num_steps):\n"
        "    shape = jax.ShapeDtypeStruct((), jnp.float32)\n"
        "    return jax.pure_callback(lambda step: jnp.float32(1e-3), shape, step)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    more = ["--config.optimizer.schedule=by_hand:rate"]
    assert train(tmp_path / "run", 2, *more).code == 0
    assert "Going on from step 2 of 3." in train(tmp_path / "run", 3, *more).out


def test_steps_that_were_done_while_the_rate_rose_may_be_gone_on_from(train, tmp_path):
    more = [LINEAR, WARM_UP]
    assert train(tmp_path / "run", 3, *more).code == 0
    assert "Going on from step 3 of 5." in train(tmp_path / "run", 5, *more).out


def test_a_run_by_equation_3_may_end_with_a_cooldown_and_is_as_if_it_had_it_at_once(
    train, tmp_path
):
    # The cooldown of ten steps begins after the eighth.
    assert train(tmp_path / "run", 8, NOAM).code == 0
    assert "Going on from step 8 of 10." in train(tmp_path / "run", 10, COOLDOWN).out
    assert train(tmp_path / "at_once", 10, COOLDOWN).code == 0
    assert state_of(tmp_path / "run", 10) == state_of(tmp_path / "at_once", 10)
    assert train(tmp_path / "without", 10, NOAM).code == 0
    assert state_of(tmp_path / "run", 10) != state_of(tmp_path / "without", 10)


def test_text_in_several_spellings_is_the_same_when_it_is_gone_on_with(train, tmp_path):
    more = ["--config.data.bpe_dropout=0.2", "--config.data.spellings=3"]
    assert train(tmp_path / "run", 3, *more).code == 0
    assert "Going on from step 3 of 5." in train(tmp_path / "run", 5, *more).out
    assert train(tmp_path / "at_once", 5, *more).code == 0
    assert state_of(tmp_path / "run", 5) == state_of(tmp_path / "at_once", 5)


def test_an_optimiser_of_several_parts_is_gone_on_with_as_it_was(train, tmp_path):
    parts = ["--config.optimizer.weight_decay=0.1", "--config.optimizer.clip_norm=1.0"]
    assert train(tmp_path / "run", 5, *parts).code == 0
    assert "Going on from step 5 of 8." in train(tmp_path / "run", 8, *parts).out
    assert train(tmp_path / "at_once", 8, *parts).code == 0
    assert state_of(tmp_path / "run", 8) == state_of(tmp_path / "at_once", 8)


def test_a_failed_save_beside_an_interruption_is_one_sentence(train, tmp_path, monkeypatch):
    def fail(self):
        raise OSError("Checkpoint 3 could not be written (no space).")

    def interrupt(self, row):
        monkeypatch.setattr(Checkpoints, "latest_step", fail)
        raise KeyboardInterrupt

    monkeypatch.setattr(Metrics, "write", interrupt)
    result = train(tmp_path / "run")
    assert result.code == 2
    assert result.err == "jaxformer: Checkpoint 3 could not be written (no space).\n"
