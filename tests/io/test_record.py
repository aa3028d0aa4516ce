import datetime
import errno
import json
import math
import os
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.io.record import (
    Metrics,
    check_config,
    read_config,
    read_metrics,
    to_json,
    write_config,
    write_run,
)

CONFIG = {
    "model": {"d_model": 16, "attention": "pkg.mod:attend"},
    "train": {"seed": 1, "num_steps": 100, "dropout_rate": 0.1},
    "decode": {"alpha": 0.6},
}


def refuse(name):
    raise AssertionError(f"{name} is no strict JSON")


def strict(text):
    return json.loads(text, parse_constant=refuse)


def changed(**keys):
    config = json.loads(json.dumps(CONFIG))
    for key, value in keys.items():
        section, name = key.split("__")
        config.setdefault(section, {})[name] = value
    return config


def test_values_become_json():
    value = {
        "int": np.int64(3),
        "float32": np.float32(0.1),
        "float64": np.float64(1e-300),
        "bfloat16": jnp.bfloat16(0.5),
        "jax": jnp.float32(0.3),
        "zero-dimensional": np.array(2),
        "bool": np.bool_(True),
        "list": (1, [jnp.arange(2), np.ones((1, 2))]),
        "nan": np.float32("nan"),
        "inf": [float("inf"), jnp.float32(-jnp.inf)],
        "none": None,
    }
    assert strict(json.dumps(to_json(value), allow_nan=False)) == {
        "int": 3,
        "float32": 0.1,
        "float64": 1e-300,
        "bfloat16": 0.5,
        "jax": 0.3,
        "zero-dimensional": 2,
        "bool": True,
        "list": [1, [[0, 1], [[1.0, 1.0]]]],
        "nan": "nan",
        "inf": ["inf", "-inf"],
        "none": None,
    }
    with pytest.raises(ValueError, match="is a set, which JSON cannot hold"):
        to_json({"a": {1}})


@given(st.floats(width=32, allow_nan=False))
def test_a_float32_reads_back_as_itself(value):
    assert np.float32(float(to_json(np.float32(value)))) == np.float32(value)


def test_a_config_is_written_and_read(tmp_path):
    workdir = tmp_path / "runs" / "a"
    write_config(workdir, {**CONFIG, "sizes": (1, 2)})
    assert read_config(workdir) == {**CONFIG, "sizes": [1, 2]}
    text = (workdir / "config.json").read_text(encoding="utf-8")
    assert text.index('"decode"') < text.index('"model"') < text.index('"num_steps"')
    assert '\n    "d_model": 16' in text
    assert [path.name for path in workdir.iterdir()] == ["config.json"]


def test_the_same_config_is_accepted_and_left_alone(tmp_path):
    write_config(tmp_path, CONFIG)
    before = (tmp_path / "config.json").stat()
    write_config(tmp_path, changed(model__d_model=16.0))
    after = (tmp_path / "config.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_config_is_refused_naming_every_key(tmp_path):
    write_config(tmp_path, CONFIG)
    other = changed(model__d_model=32, train__seed="x", train__num_steps=5, data__source="wyc")
    del other["decode"]
    with pytest.raises(ValueError, match="holds a run with other settings") as raised:
        write_config(tmp_path, other, may_change=["train.num_*"])
    assert str(raised.value) == (
        f"{tmp_path} holds a run with other settings: "
        'data.source is absent there and "wyc" here; decode.alpha is 0.6 there and absent here; '
        'model.d_model is 16 there and 32 here; train.seed is 1 there and "x" here. '
        "Give another --workdir, or the same settings."
    )
    assert read_config(tmp_path) == CONFIG


def test_what_may_change_is_rewritten(tmp_path):
    write_config(tmp_path, CONFIG)
    other = changed(train__num_steps=200, decode__alpha=1.0, decode__average=5)
    with pytest.raises(ValueError, match=r"train\.num_steps is 100 there and 200 here\. Give"):
        write_config(tmp_path, other, may_change=["decode.*"])
    write_config(tmp_path, other, may_change=["decode.*", "train.num_steps"])
    assert read_config(tmp_path) == other


def test_a_comparison_writes_nothing(tmp_path):
    assert check_config(tmp_path / "new", CONFIG) is None
    assert not (tmp_path / "new").exists()
    write_config(tmp_path, CONFIG)
    other = changed(train__num_steps=200)
    assert check_config(tmp_path, other, may_change=["train.num_steps"]) == CONFIG
    with pytest.raises(ValueError, match=r"train\.num_steps is 100 there and 200 here\. Give"):
        check_config(tmp_path, other)
    assert read_config(tmp_path) == CONFIG


def test_a_setting_that_is_newer_than_a_run_is_what_it_did_then(tmp_path):
    write_config(tmp_path, CONFIG)
    newer = {**CONFIG, "model": {**CONFIG["model"], "new": 0}}

    def complete(config):
        return {**config, "model": {"new": 0, **config["model"]}}

    with pytest.raises(ValueError, match=r"model\.new is absent there and 0 here"):
        check_config(tmp_path, newer)
    assert check_config(tmp_path, newer, complete=complete) == CONFIG
    write_config(tmp_path, newer, complete=complete)
    assert read_config(tmp_path) == newer


def test_a_config_that_json_cannot_hold_changes_nothing(tmp_path):
    with pytest.raises(ValueError, match="is a object, which JSON"):
        write_config(tmp_path / "new", {"model": object()})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not the workdir of a run: it holds no config.json"),
        (b'{"a": ', "config.json is not JSON"),
        (b"\xff\xfe", "config.json is not JSON"),
        (b"[" * 100_000, "config.json is not JSON"),
        (b"[1]", "config.json holds a JSON list, not an object"),
    ],
)
def test_a_broken_config_is_told(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_config(tmp_path)
    assert "\n" not in str(raised.value)
    if content is not None:
        with pytest.raises(ValueError, match=message):
            write_config(tmp_path, CONFIG)
        assert (tmp_path / "config.json").read_bytes() == content


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_config(tmp_path, CONFIG)

    def fail(descriptor):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_config(tmp_path, changed(train__num_steps=7), may_change=["train.*"])
    assert read_config(tmp_path) == CONFIG


def test_every_start_is_recorded(tmp_path):
    workdir = tmp_path / "new"
    given = {
        "seeds": {"train": 3},
        "allocator": "glibc, keeping freed memory",
        "mesh": {"data": 2, "fsdp": 1, "tensor": 4},
    }
    write_run(workdir, argv=("jaxformer", "train"), overrides={"train.seed": 3}, **given)
    write_run(workdir, argv=["jaxformer", "train", "again\udcff"], overrides={}, **given)
    first, second = strict((workdir / "run.json").read_bytes())["starts"]
    assert first["argv"] == ["jaxformer", "train"]
    assert first["overrides"] == {"train.seed": 3}
    assert first["seeds"] == {"train": 3}
    assert first["versions"]["jax"] == jax.__version__
    assert first["devices"]["platform"] == "cpu"
    assert first["mesh"] == {"data": 2, "fsdp": 1, "tensor": 4}
    assert first["allocator"] == "glibc, keeping freed memory"
    assert first["git"].keys() == {"package", "folder"}
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(first["time"])
    assert abs(age) < datetime.timedelta(minutes=5)
    assert second["argv"][2] == "again\udcff"


@pytest.mark.parametrize("content", ["{}", '{"starts": 3}', "{"])
def test_a_file_that_is_no_record_of_starts_is_kept(tmp_path, content):
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json .*[Mm]ove it away"):
        write_run(tmp_path, argv=[], overrides={}, seeds={}, allocator="", mesh={})
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == content


def test_metrics_are_whole_lines_at_once(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    with Metrics(path, 0) as metrics:
        metrics.write({"step": 1, "loss": jnp.float32(0.1)})
        assert path.read_bytes() == b'{"step": 1, "loss": 0.1}\n'
        metrics.write({"step": np.int32(2), "loss": float("nan"), "norm": jnp.float32(jnp.inf)})
    for line in path.read_bytes().splitlines():
        strict(line)
    first, second = read_metrics(path)
    assert first == {"step": 1, "loss": 0.1}
    assert second["step"] == 2
    assert math.isnan(second["loss"])
    assert second["norm"] == math.inf


ROWS = [{"step": step, "loss": 1 / step} for step in (10, 20, 20, 30)]


def write_rows(path, tail=b""):
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in ROWS) + tail)


@pytest.mark.parametrize(
    ("resume_step", "left"), [(0, 0), (9, 0), (10, 1), (20, 3), (25, 3), (99, 4)]
)
@pytest.mark.parametrize("tail", [b"", b'{"step": 4', b'{"step": 40}'[:-1], b"\x00\x00\n", b"\xff"])
def test_resuming_drops_later_lines_and_a_torn_one(tmp_path, resume_step, left, tail):
    path = tmp_path / "metrics.jsonl"
    write_rows(path, tail)
    with Metrics(path, resume_step) as metrics:
        assert read_metrics(path) == ROWS[:left]
        metrics.write({"step": 31})
    assert read_metrics(path) == [*ROWS[:left], {"step": 31}]
    assert path.read_bytes().endswith(b'\n{"step": 31}\n' if left else b"")
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_last_line_without_its_end_is_ended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_rows(path, b'{"step": 40}')
    with Metrics(path, 40) as metrics:
        metrics.write({"step": 50})
    assert read_metrics(path) == [*ROWS, {"step": 40}, {"step": 50}]


@pytest.mark.parametrize("line", [b'{"step": 1', b"", b"[1]", b'{"loss": 1}', b'{"step": 1.5}'])
def test_a_damaged_line_is_told_and_nothing_is_lost(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    before = b'{"step": 1}\n' + line + b'\n{"step": 2}\n'
    path.write_bytes(before)
    for read in (lambda: read_metrics(path), lambda: Metrics(path, 1)):
        with pytest.raises(ValueError, match=r"Line 2 of .*metrics\.jsonl is not a row of metrics"):
            read()
    assert path.read_bytes() == before


@pytest.mark.parametrize("row", [{"loss": 1.0}, {"step": 1.0}, {"step": True}])
def test_a_row_needs_a_step(tmp_path, row):
    with (
        Metrics(tmp_path / "metrics.jsonl", 0) as metrics,
        pytest.raises(ValueError, match="needs an integer `step`"),
    ):
        metrics.write(row)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_a_full_disk_leaves_no_half_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Metrics(path, 0) as metrics:
        metrics.write({"step": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                metrics.write({"step": 2, "text": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert read_metrics(path) == [{"step": 1}]
        metrics.write({"step": 3})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_a_missing_file_of_metrics_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")
