"""Launches of jobs whose command lines no shell likes, and programs that stand for real ones."""

import os
import subprocess
import time
from pathlib import Path

from jaxformer.study.launch import Job, Launch
from jaxformer.study.slices import find_slice

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [
    "jaxformer",
    "train",
    "--config=configs/my file.py:laptop/d_k=16, or so",
    '--config.data.source=it\'s "quoted" and $HOME and `id` and \\ and * and #',
    "--config.data.target=two\nlines\n   and a third: - [x] {y} %z\n",
    "--config.data.corpus=\ttab, and a space at the end \n ",
    "--config.model.attention=ä:ß",
    "",
    "--workdir=gs://bucket/x/it's=1",
]
EVALUATE = ["jaxformer", "evaluate", "--workdir=gs://bucket/x/it's=1", "--split=valid"]
COMMANDS = [TRAIN, EVALUATE]

# A training that is stopped by a signal, and takes a moment for it.
SAVES = """
trap 'sleep 0.3; touch "$HOME/saved"; {command}' TERM
touch "$HOME/running"
while :; do sleep 0.05; done
"""


def make_launch(jobs=1, **changes):
    """Returns a launch of jobs, of so many that are alike but for their names, or of these."""
    if isinstance(jobs, int):
        jobs = [Job(f"job-{number}", COMMANDS) for number in range(jobs)]
    fields = {
        "jobs": jobs,
        "slice": find_slice("v5e:4x4"),
        "folder": "launch/my jobs",
        "root": "../..",
        "zone": "us-west4-a",
        "project": "my-project",
    }
    return Launch(**{**fields, **changes})


class Machine:
    """A folder that stands for a machine: its home, its programs, and what they were called with.

    Attributes:
      home: its user's folder.
      checkout: the folder that a launch is started from.
    """

    def __init__(self, folder: Path) -> None:
        self.home, self.checkout = folder / "home", folder / "check out"
        self._calls, self._programs = folder / "calls", folder / "programs"
        for each in (self.home, self.checkout, self._calls, self._programs):
            each.mkdir()
        # What installs jaxformer.
        self.add_program("python3")
        self.add_program("jaxformer")

    def add_program(self, name, body="exit 0"):
        """Makes a program that notes its arguments before it does what `body` says."""
        path = self._programs / name
        note = f"printf '%s\\0' \"$@\" end >> {str(self._calls / name)!r}"
        path.write_text(f"#!/usr/bin/env bash\n{note}\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def calls(self, name):
        """Returns the arguments of each call of a program."""
        path = self._calls / name
        words = path.read_text(encoding="utf-8").split("\0")[:-1] if path.exists() else []
        found, call = [], []
        for word in words:
            if word == "end":
                found.append(call)
                call = []
            else:
                call.append(word)
        return found

    def write(self, files, folder="launch/my jobs"):
        """Writes a launch's files into the checkout."""
        for name, text in files.items():
            path = self.checkout / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def wait_for(self, name):
        """Waits until there is a file in its home."""
        deadline = time.monotonic() + 60
        while not (self.home / name).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def start(self, *command):
        """Starts a command in the checkout, as a group of processes."""
        path = f"{self._programs}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            command,
            cwd=self.checkout,
            env={**os.environ, "HOME": str(self.home), "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command):
        """Runs a command in the checkout: (exit code, stdout, stderr)."""
        process = self.start(*command)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err
