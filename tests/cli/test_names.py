"""Code that settings name is looked for everywhere but in the folder that they were read from."""

import runpy
import sys
from pathlib import Path

import pytest

from jaxformer.cli.names import refuse_code_within

BASE = Path(__file__).resolve().parent.parent.parent / "configs" / "base.py"
TRAP = "raise SystemExit('executed')"


@pytest.fixture
def config():
    return runpy.run_path(str(BASE))["get_config"]().to_dict()


# A file in the folder of runs, whose folder is on the path, and the name that would find it.
TRAPS = {
    "a module": ("run/mine.py", "run", "mine:attend"),
    "a package": ("run/mine/__init__.py", "run", "mine:attend"),
    "a module of a package": ("run/mine/deep.py", "run", "mine.deep:attend"),
    "a package that has no file": ("run/mine/deep/er.py", "run", "mine.deep.er:attend"),
    "a folder above": ("run/mine.py", ".", "run.mine:attend"),
    "a link to it": ("run/mine.py", "link", "mine:attend"),
}


@pytest.mark.parametrize("key", ["model.attention", "decode.length_penalty", "data.corpus"])
@pytest.mark.parametrize("trap", TRAPS)
def test_code_within_the_folder_is_refused_unseen(config, tmp_path, monkeypatch, trap, key):
    file, place, name = TRAPS[trap]
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(TRAP, encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.syspath_prepend(tmp_path / place)
    group, setting = key.split(".")
    config[group][setting] = name
    with pytest.raises(ValueError, match=f"^{key}='{name}' is code within .*run, where nothing is"):
        refuse_code_within(tmp_path / "run", config)
    refuse_code_within(tmp_path / "other", config)
    assert name.partition(":")[0] not in sys.modules


@pytest.mark.parametrize(
    "name", ["", "bible", "no.such:name", ":", ".:x", "a\0b:c", "\ud800:c", "..:"]
)
def test_what_names_no_code_is_left_alone(config, tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(tmp_path)
    config["data"]["corpus"] = name
    refuse_code_within(tmp_path, config)
