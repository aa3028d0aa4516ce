"""Rows and seeds make members; a manifest is read as it was written, and can be extended."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.study.manifest import (
    Manifest,
    Row,
    expand,
    extend,
    folder_name,
    read_manifest,
    write_manifest,
)


def row(group, label, **overrides):
    config = {"train": {"num_steps": 3, "seed": 11}, "model": {"d_k": 0, **overrides}}
    arguments = [f"--config={group}.py:laptop/{label}"]
    changes = {f"model.{key}": value for key, value in overrides.items()}
    return Row(group, label, changes, None, config, arguments)


ROWS = [row("a", "h=1"), row("b", "base"), row("b", "d_k=16", d_k=16)]


def ids(members):
    return [member.id for member in members]


def test_the_first_seed_of_every_row_comes_first_and_base_before_all():
    assert ids(expand(ROWS, [1, 0], "runs/t")) == [
        "b/base/seed=0",
        "a/h=1/seed=0",
        "b/d_k=16/seed=0",
        "b/base/seed=1",
        "a/h=1/seed=1",
        "b/d_k=16/seed=1",
    ]


def test_a_member_says_how_it_is_made():
    member = expand(ROWS, [5], "runs/t")[2]
    assert (member.group, member.row, member.seed) == ("b", "d_k=16", 5)
    assert member.overrides == {"model.d_k": 16}
    assert member.config["train"] == {"num_steps": 3, "seed": 5}
    assert member.num_steps == 3
    assert member.argv == [
        "jaxformer",
        "train",
        "--config=b.py:laptop/d_k=16",
        "--config.train.seed=5",
        "--workdir=runs/t/b/d_k=16/seed=5",
    ]
    assert member.evaluate == [
        "jaxformer",
        "evaluate",
        "--workdir=runs/t/b/d_k=16/seed=5",
        "--split=valid",
    ]
    assert member.workdir == member.id
    # The row's own settings are as they were.
    assert ROWS[2].config["train"]["seed"] == 11


@given(
    st.lists(st.text(max_size=120), unique=True, max_size=5),
    st.sets(st.integers(0, 9), min_size=1, max_size=3),
)
def test_every_row_has_every_seed_in_a_folder_of_its_own(labels, seeds):
    members = expand([row("g", label) for label in labels], seeds, "w")
    assert len({member.workdir for member in members}) == len(labels) * len(seeds)
    assert {(member.row, member.seed) for member in members} == {
        (label, seed) for label in labels for seed in seeds
    }
    assert [member.seed for member in members] == sorted(member.seed for member in members)


@given(st.text())
def test_any_label_gives_a_safe_folder_name(label):
    name = folder_name(label)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.,=+-]{0,120}", name)


def test_safe_labels_stay_as_they_are():
    for label in ("d_k=16", "model.num_heads=1,train.dropout_rate=0.1", "N=2", "1e-3"):
        assert folder_name(label) == label


@pytest.mark.parametrize(
    ("label", "start"),
    [("a/b", "a_b-"), ("../x", "x-"), ("", "row-"), ("-x", "x-"), ("a b", "a_b-")],
)
def test_other_labels_are_told_apart_by_a_hash(label, start):
    assert re.fullmatch(f"{re.escape(start)}[0-9a-f]{{8}}", folder_name(label))
    assert folder_name("a/b") != folder_name("a b")
    assert folder_name("x" * 101) != folder_name("x" * 102)


def test_rows_and_seeds_are_told_apart():
    with pytest.raises(ValueError, match="b has 2 rows 'base'. Give each a name of its own."):
        expand([*ROWS, row("b", "base")], [0], "w")
    with pytest.raises(ValueError, match="A seed is there twice: 0, 1, 0. Leave one out."):
        expand(ROWS, [0, 1, 0], "w")


def test_more_seeds_extend_a_sweep():
    before = Manifest("laptop", expand(ROWS, [0], "w"))
    now = Manifest("laptop", expand(ROWS, [0, 1], "w"))
    assert extend(before, now) == now
    assert extend(now, before) == now


def test_more_rows_extend_a_sweep():
    before = Manifest("laptop", expand(ROWS[:2], [0, 1], "w"))
    now = Manifest("laptop", expand([row("c", "N=2")], [0], "w"))
    assert ids(extend(before, now).members) == [
        "b/base/seed=0",
        "a/h=1/seed=0",
        "c/N=2/seed=0",
        "b/base/seed=1",
        "a/h=1/seed=1",
    ]


def test_a_member_of_both_is_the_newer_one():
    before = Manifest("laptop", expand([row("c", "x", d_k=8)], [0], "w"))
    now = Manifest("laptop", expand([row("c", "x", d_k=4)], [0], "w"))
    assert extend(before, now) == now


def test_sweeps_of_two_scales_do_not_mix():
    laptop, ad_hoc = (Manifest(scale, expand(ROWS, [0], "w")) for scale in ("laptop", ""))
    with pytest.raises(ValueError, match="is of scale 'laptop', and this one ad hoc. Give another"):
        extend(laptop, ad_hoc)


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    manifest = Manifest("laptop", expand(ROWS, [0, 1], "w"))
    path = write_manifest(tmp_path / "new", manifest)
    assert read_manifest(tmp_path / "new") == manifest
    assert [file.name for file in path.parent.iterdir()] == ["manifest.json"]
    tree = json.loads(path.read_text(encoding="utf-8"))
    assert list(tree) == ["version", "scale", "split", "members"]
    assert list(tree["members"][0]) == [
        "id", "group", "row", "seed", "overrides", "paper", "config", "argv", "evaluate", "workdir",
    ]  # fmt: skip
    assert (tree["version"], tree["split"]) == (1, "valid")


def test_a_folder_without_a_manifest_has_none(tmp_path):
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 1, "members": [3]}'])
def test_what_is_no_manifest_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="manifest.json is not the manifest of a sweep"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("seed", "0"), ("seed", 1.5), ("id", [1]), ("row", None)]
)
def test_a_member_that_could_not_be_joined_is_named(tmp_path, field, value):
    path = write_manifest(tmp_path, Manifest("laptop", expand(ROWS, [0], "w")))
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["members"][0][field] = value
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(ValueError, match="manifest.json is not the manifest of a sweep"):
        read_manifest(tmp_path)


def test_another_version_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"version": 2}', encoding="utf-8")
    with pytest.raises(ValueError, match="is of version 2, and this program writes version 1"):
        read_manifest(tmp_path)
