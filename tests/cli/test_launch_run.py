"""What a host of a managed job runs, run here: taken away, and gone on with from the bucket."""

import os
import re
import shutil
import signal
import sys
import time

import pytest
import yaml

from tests import bucket_server
from tests.cli.conftest import ROOT, SPLITS, TINY
from tests.study.launches import Machine

pytestmark = [pytest.mark.slow, pytest.mark.needs("gcs")]

WORKDIR = "gs://bucket/runs/mine"


def test_a_job_that_is_taken_away_goes_on_from_the_bucket(jaxformer, corpus, monkeypatch, tmp_path):
    # A checkout, with the text in it.
    checkout = tmp_path / "sent"
    shutil.copytree(corpus, checkout / "text")
    shutil.copytree(ROOT / "configs", checkout / "configs")
    (checkout / "jaxformer").symlink_to(ROOT / "jaxformer")
    monkeypatch.chdir(checkout)
    files = [
        f"--config.data.{split}_{side}=text/{split}.{side}"
        for split in SPLITS
        for side in ("source", "target")
    ]
    argv = ["train", "--config=configs/plain_text.py", *files, *TINY, f"--workdir={WORKDIR}"]
    argv = [*argv, "--config.train.num_steps=300", "--config.train.eval_every=0"]
    place = f"--launch_dir={tmp_path / 'launch'}"
    elsewhere = ["--executor=skypilot", "--topology=v5e:1x1", place]
    assert jaxformer(*argv, *elsewhere).code == 0
    (path,) = (tmp_path / "launch").glob("*.yaml")
    run = yaml.safe_load(path.read_text(encoding="utf-8"))["run"]

    (tmp_path / "machine").mkdir()
    machine = Machine(tmp_path / "machine")
    machine.checkout = checkout
    machine.add_program("jaxformer", f'PYTHONPATH=. exec {sys.executable} -m jaxformer "$@"')
    with bucket_server.BucketServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        first = machine.start("bash", "-c", run)
        for line in first.stdout:
            if line.startswith("step "):
                break
        # A moment later, so that the steps differ from those of a checkpoint.
        time.sleep(0.1)
        # As SkyPilot does: to the job's shell and to the training.
        os.killpg(first.pid, signal.SIGTERM)
        _, err = first.communicate(timeout=120)
        assert first.returncode == 143, err
        step = re.search(r"Stopped by SIGTERM after step (\d+)", err)[1]
        second = machine.start("bash", "-c", run)
        out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert f"Going on from step {step} of 300." in out
    assert f"Trained to step 300: {WORKDIR}" in out
    assert machine.calls("jaxformer") == [argv, argv]
