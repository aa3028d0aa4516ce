"""The samples of experiments/launch are what their commands write, and shells can read them."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from jaxformer.cli.main import main

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "experiments" / "launch"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    (jaxformer .*)$", README, re.M)]


def test_every_folder_has_its_command():
    named = {command[-1].rpartition("/")[2] for command in COMMANDS}
    assert named == {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert len(named) == 3


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1].rpartition("/")[2])
def test_a_sample_is_what_its_command_writes(capsys, monkeypatch, command):
    monkeypatch.chdir(ROOT)
    assert main([*command[1:], "--print"]) == 0
    _, *parts = re.split(r"^==> (.*) <==\n", capsys.readouterr().out, flags=re.M)
    written = dict(zip(parts[::2], (text[:-1] for text in parts[1::2]), strict=True))
    folder = ROOT / command[-1].partition("=")[2]
    assert {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in folder.iterdir()
    } == written


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.sh")), ids=lambda path: path.parent.name)
def test_shells_can_read_the_samples(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
