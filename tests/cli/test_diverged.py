"""A loss that is not finite: nothing of it is kept, the step is named, and may be left out."""

import math

import pytest

from tests.cli.test_resume import lines_of

MODULE = """
import jax
import jax.numpy as jnp

from jaxformer.optim import noam_rate


def rate(step, *, d_model, warmup_steps, num_steps):
    usual = noam_rate(step, d_model=d_model, warmup_steps=warmup_steps)
    return jnp.where(step == 8, jnp.nan, usual)


def activation(x):
    return jax.nn.relu(x) + 0 * jnp.log(-1 - jnp.abs(x))
"""
EVERY = ["--config.train.log_every=1", "--config.train.checkpoint_every=2"]


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("module")
    (folder / "breaking.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "breaking.py"


def test_training_stops_before_it_keeps_anything(train, tmp_path):
    workdir = tmp_path / "run"
    result = train(workdir, 20, *EVERY, "--config.optimizer.schedule=breaking:rate")
    assert result.code == 3
    first, second = result.err.splitlines()
    assert first.startswith("jaxformer: Step 8 (batch ")
    assert " of epoch 2, both counted from 0) is not finite: loss " in first
    assert first.endswith("learning rate nan.")
    assert second == (
        "Checkpoint 6 is kept. To go on, find the operation with --debug_nans, or leave such "
        "updates out with --config.train.not_finite=skip."
    )
    assert [row["step"] for row in lines_of(workdir)] == list(range(1, 8))
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "4", "6"]
    # The same run with the step left out.
    more = [*EVERY, "--config.optimizer.schedule=breaking:rate", "--config.train.not_finite=skip"]
    result = train(workdir, 12, *more)
    assert (result.code, result.err) == (0, "")
    assert "Going on from step 6 of 12." in result.out
    assert "learning rate nan. Its update was left out.\n" in result.out
    rows = lines_of(workdir)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["step"] for row in rows if "skipped" in row] == [8]
    assert [row["step"] for row in rows if not math.isfinite(float(row["loss"]))] == [8]


def test_the_operation_is_found(train, module, tmp_path):
    workdir = tmp_path / "run"
    activation = "--config.model.activation=breaking:activation"
    result = train(workdir, 20, activation, "--config.train.accumulate=1", "--debug_nans")
    assert result.code == 3
    lines = result.err.splitlines()
    assert lines[0] == (
        "jaxformer: Step 1 (batch 0 of epoch 0, both counted from 0) makes a NaN in `log`:"
    )
    number = MODULE[: MODULE.index("+ 0 * jnp.log")].count("\n") + 1
    assert lines[3].startswith(f"  {module}:{number}, in activation: return jax.nn.relu(x) + 0 *")
    assert lines[4].startswith("There is no checkpoint. To go on, leave such updates out with ")
    assert len(lines) == 5
