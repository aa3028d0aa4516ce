"""The benchmark of the data pipeline: its text, and its stages on a little of it."""

import argparse
import json
import subprocess
import sys

import pytest

from experiments.benchmarks import made_up, pipeline

SMALL = {"pairs": 300, "vocab": 400, "tokens": 1000, "step": 1000, "batches": 7}


@pytest.fixture
def few_words(monkeypatch):
    monkeypatch.setattr(made_up, "_WORDS", 500)
    monkeypatch.setattr(made_up, "_PAIRS_AT_A_TIME", 200)


def lines(folder, side):
    return (folder / f"train.{side}").read_text("utf-8").splitlines()


def test_more_text_begins_as_less_does(tmp_path, few_words):
    for pairs in (250, 450):
        (tmp_path / str(pairs)).mkdir()
        made_up.write_text(tmp_path / str(pairs), pairs)
    for side in ("source", "target"):
        some = lines(tmp_path / "250", side)
        assert len(some) == 250
        assert lines(tmp_path / "450", side)[:250] == some
        assert all(line.split() for line in some)
    assert lines(tmp_path / "450", "source")[200:250] != lines(tmp_path / "450", "source")[:50]


def test_lengths_and_words_are_about_as_texts_have_them(tmp_path, few_words):
    made_up.write_text(tmp_path, 1000)
    sides = [[line.split() for line in lines(tmp_path, side)] for side in ("source", "target")]
    lengths = [[len(words) for words in side] for side in sides]
    assert 22 < sum(lengths[0]) / 1000 < 28
    assert sum(abs(a - b) for a, b in zip(*lengths, strict=True)) / 1000 < 8
    words = [word for line in sides[0] for word in line]
    counts = sorted((words.count(word) for word in set(words)), reverse=True)
    assert counts[0] > 5 * counts[20] > 0


def test_every_stage_reports_of_the_same_text(tmp_path, few_words):
    chosen = argparse.Namespace(folder=tmp_path, **SMALL)
    found = {name: work(chosen) for name, work in pipeline.STAGES.items()}
    assert found["prepare"] == {"pairs": 300}
    assert found["vocabulary"] == {"vocab_size": 400}
    starts = [found[name] for name in ("cold", "warm", "resume")]
    for start in starts:
        assert start["pairs"] + start["left_out"] == 300
        assert start.pop("first_batch_seconds") > 0
        assert start == starts[0]
    assert starts[0]["encoded_bytes"] > 4 * starts[0]["tokens"]
    assert found["batches"]["tokens_per_second"] > 0
    # Of the same text in other roles: the stream's tokens are those that were encoded.
    rate = found["batches"]
    assert rate["tokens_per_second"] / rate["batches_per_second"] == pytest.approx(
        starts[0]["tokens"] / starts[0]["batches_per_epoch"]
    )


@pytest.mark.slow
def test_the_record_says_time_and_memory_of_every_stage(tmp_path):
    sizes = [f"--{name}={size}" for name, size in SMALL.items()]
    command = [sys.executable, "-m", "experiments.benchmarks.pipeline", *sizes]
    command += [f"--folder={tmp_path}", f"--out={tmp_path / 'record.json'}"]
    subprocess.run(command, check=True, capture_output=True, cwd=pipeline.ROOT)
    record = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert record["sizes"] == SMALL
    assert list(record["stages"]) == list(pipeline.STAGES)
    for stage in record["stages"].values():
        assert stage["seconds"] > 0
        assert stage["cpu_seconds"] > 0
        assert stage["peak_bytes"] > 50 * 2**20
