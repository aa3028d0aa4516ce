"""Preparing a corpus: once, silently, and whole or not at all."""

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from jaxformer.data.prepare import default_data_dir, prepare_builder, raw_folders


class Lines(tfds.core.GeneratorBasedBuilder):
    """Five pairs; `interrupt` is called before the fourth."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, interrupt=lambda: None, **kwargs):
        self.interrupt = interrupt
        super().__init__(**kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.Translation(("source", "target")),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(5):
            if number == 3:
                self.interrupt()
            yield number, {"source": f"source {number}", "target": f"target {number}"}


def read(builder):
    return [record["source"].decode() for record in builder.as_data_source(split="train")]


ALL = [f"source {number}" for number in range(5)]


def test_it_prepares_once(tmp_path):
    def never():
        raise AssertionError("prepared again")

    assert read(prepare_builder(Lines, tmp_path)) == ALL
    assert read(prepare_builder(Lines, tmp_path, interrupt=never)) == ALL


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_an_interrupted_preparation_leaves_nothing(tmp_path, error):
    def interrupt():
        raise error("stop")

    with pytest.raises(error, match="stop"):
        prepare_builder(Lines, tmp_path, interrupt=interrupt)
    assert not list((tmp_path / "lines").iterdir())
    assert read(prepare_builder(Lines, tmp_path)) == ALL


def test_a_killed_preparation_counts_for_nothing(tmp_path):
    script = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_prepare import Lines, prepare_builder\n"
        "from pathlib import Path\n"
        "prepare_builder(Lines, Path(sys.argv[1]), interrupt=lambda: os.kill(os.getpid(), 9))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=root, check=False)
    assert done.returncode == -9
    assert not (tmp_path / "lines" / "1.0.0").exists()
    assert read(prepare_builder(Lines, tmp_path)) == ALL


def test_the_slower_of_two_uses_what_the_faster_made(tmp_path):
    def other_process():
        prepare_builder(Lines, tmp_path)

    assert read(prepare_builder(Lines, tmp_path, interrupt=other_process)) == ALL
    assert [path.name for path in (tmp_path / "lines").iterdir()] == ["1.0.0"]


def test_it_is_silent_and_leaves_logging_as_it_was(tmp_path, capfd, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("absl"), "level", logging.INFO)
    config = tfds.core.BuilderConfig(name="of_my_own")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare_builder(Lines, tmp_path, config=config)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not caught
    assert logging.getLogger("absl").level == logging.INFO


def test_default_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "jaxformer" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / ".cache" / "jaxformer" / "datasets"


def test_raw_folders(monkeypatch):
    monkeypatch.delenv("JAXFORMER_DATA", raising=False)
    by_tfds = Path("data/downloads/manual/corpus")
    assert raw_folders("corpus", Path("data"), None) == [by_tfds]
    monkeypatch.setenv("JAXFORMER_DATA", "shared")
    assert raw_folders("corpus", Path("data"), Path("mine")) == [
        Path("mine"),
        Path("mine/corpus"),
        Path("shared/corpus"),
        by_tfds,
    ]
