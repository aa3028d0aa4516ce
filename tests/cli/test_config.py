"""Loading config files and overriding their settings."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jaxformer.cli import config as config_lib
from jaxformer.cli.mistakes import Mistake


@pytest.fixture
def tree():
    """Returns settings of every type."""
    return ConfigDict(
        {
            "a": {"size": 3, "rate": 0.5, "on": False, "name": "x"},
            "b": {"size": 4},
        }
    ).lock()


def test_arguments_are_told_apart():
    argv = ["--config.a.b=1", "--workdir", "w", "--config", "f.py:x", "--config.c", "-2"]
    assert config_lib.split_arguments([*argv, "--config.a.b=3"]) == (
        "f.py:x",
        [("a.b", "1"), ("c", "-2"), ("a.b", "3")],
        ["--workdir", "w"],
    )


def test_values_take_the_type_that_stands_there(tree):
    texts = [
        ("a.size", "1_000"),
        ("a.rate", "2"),
        ("a.on", "True"),
        ("a.name", "3"),
    ]
    values = config_lib.override(tree, texts)
    assert values == {"a.size": 1000, "a.rate": 2.0, "a.on": True, "a.name": "3"}
    assert type(tree.a.rate) is float
    assert tree.to_dict()["a"] == {"size": 1000, "rate": 2.0, "on": True, "name": "3"}
    assert tree.b.size == 4


def test_the_last_value_counts(tree):
    assert config_lib.override(tree, [("a.size", "1"), ("a.size", "2")]) == {"a.size": 2}
    assert tree.a.size == 2


def test_references_follow_what_they_refer_to():
    tree = ConfigDict({"width": 8})
    tree.inner = tree.get_ref("width") * 4
    config_lib.override(tree.lock(), [("width", "16")])
    assert tree.to_dict() == {"width": 16, "inner": 64}


@pytest.mark.parametrize("key", ["a.siz", "size", "c.size", "a.size.more", "", "a."])
def test_an_unknown_name_changes_nothing(tree, key):
    before = tree.to_dict()
    with pytest.raises(Mistake, match="Unknown setting"):
        config_lib.override(tree, [(key, "1")])
    assert tree.to_dict() == before


def test_a_name_in_the_wrong_group_is_found():
    known = ["model.d_model", "train.num_steps"]
    assert config_lib.suggestion("train.d_model", known) == " Did you mean 'model.d_model'?"
    assert config_lib.suggestion("num_step", ["num_steps", "x"]) == " Did you mean 'num_steps'?"
    assert config_lib.suggestion("zzz", known) == ""


def test_existing_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.de").write_text("x", encoding="utf-8")
    names = ["data_dir", "manual_dir"] + [
        f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")
    ]
    tree = ConfigDict({"data": dict.fromkeys(names, "")})
    tree.data.train_source = "train.de"
    tree.data.train_target = "elsewhere/train.en"
    tree.data.data_dir = "."
    config_lib.resolve_paths(tree)
    assert tree.data.train_source == str(tmp_path / "train.de")
    assert tree.data.data_dir == str(tmp_path)
    # Of the raw files' folder, perhaps.
    assert tree.data.train_target == "elsewhere/train.en"
    assert tree.data.manual_dir == ""
