import math

import pytest

from jaxformer.study.records import read_sweep
from jaxformer.study.rows import base_of, make_rows, spread, varying
from tests.study.sweeps import make_member, write_manifest, write_metrics, write_scores


def rows_of(folder, members):
    write_manifest(folder, members)
    return make_rows(read_sweep(folder).members)


def test_rows_are_grouped_and_sorted_whatever_the_order_of_running(tmp_path):
    members = [
        make_member(group, row, seed, {"model.d_ff": size})
        for seed in (1, 0)
        for group, row, size in (
            ("big", "big", 5),
            ("c_size", "x", 3),
            ("a_heads", "one", 1),
            ("Ab", "y", 6),
            ("base", "base", 2),
            ("a_heads", "two", 4),
        )
    ]
    rows = rows_of(tmp_path, members)
    assert [row.label for row in rows] == ["base", "one", "two", "x", "big", "y"]
    assert [row.letter for row in rows] == ["base", "A", "A", "C", "big", "Ab"]
    assert all([member.seed for member in row.members] == [0, 1] for row in rows)
    assert varying(rows) == ["model.d_ff"]
    assert [base_of(row, rows) for row in rows] == [rows[0]] * 6


def test_every_group_may_have_its_base(tmp_path):
    members = [make_member(group, row, 0) for group in ("one", "two") for row in ("x", "base")]
    rows = rows_of(tmp_path, members)
    assert [row.label for row in rows] == ["x", "base", "x", "base"]
    assert [base_of(row, rows) for row in rows] == [rows[1], rows[1], rows[3], rows[3]]
    assert base_of(rows[0], [rows[0]]) is None


def test_widths_of_heads_are_those_of_the_model(tmp_path):
    members = [
        make_member("a", "even", 0, {"model.num_heads": 8}),
        make_member("a", "given", 0, {"model.d_k": 24, "model.d_v": 40}),
    ]
    even, given = rows_of(tmp_path, members)
    assert (even.settings["model.d_k"], even.settings["model.d_v"]) == (16, 16)
    assert (given.settings["model.d_k"], given.settings["model.d_v"]) == (24, 40)


def test_the_state_of_a_row(tmp_path):
    members = [
        make_member("g", f"{first} {second}", seed)
        for first, second in (("done", "done"), ("done", "no"), ("begun", "no"), ("no", "no"))
        for seed in (0, 1)
    ]
    for member in members:
        where = member["row"].split()[member["seed"]]
        if where != "no":
            write_metrics(tmp_path, member, 100, 6.0)
        if where == "done":
            write_scores(tmp_path, member)
    rows = rows_of(tmp_path, members)
    assert [row.state for row in rows] == ["finished", "partly", "unfinished", "missing"]
    assert [sorted(row.scores) for row in rows] == [[0, 1], [0], [], []]
    assert [row.parameters for row in rows] == [2_570_000, 2_570_000, None, None]


def test_seeds_of_a_row_have_the_same_settings(tmp_path):
    members = [make_member("g", "row", seed, {"model.d_ff": 10 + seed}) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"g/row/seed=1 has model\.d_ff=11 .* has 10\. Give them"):
        rows_of(tmp_path, members)


def test_a_setting_that_a_table_needs_is_told(tmp_path):
    member = make_member("g", "row", 0)
    member["config"]["model"]["d_k"] = "wide"
    with pytest.raises(ValueError, match=r"g/row/seed=0 has model\.d_k='wide' .* a number\. Make"):
        rows_of(tmp_path, [member])


def test_means_and_deviations():
    assert spread({}) == spread({}).__class__(None, None, {})
    one = spread({3: 2.5})
    assert (one.mean, one.deviation, one.values) == (2.5, None, {3: 2.5})
    three = spread({0: 1.0, 1: 2.0, 2: 6.0})
    assert three.mean == 3.0
    # sqrt((4 + 1 + 9) / 2)
    assert three.deviation == pytest.approx(math.sqrt(7))
    diverged = spread({0: 1.0, 1: math.inf})
    assert (diverged.mean, diverged.deviation) == (math.inf, None)
