import pytest

from jaxformer.study.factors import PAPERS, line_names, lines, other_factors, settings_name
from jaxformer.study.records import read_sweep
from jaxformer.study.rows import make_rows
from tests.study.sweeps import make_member, write_manifest, write_scores

HEADS, KEY_SIZE, DROPOUT = PAPERS


def rows_of(folder, overrides, unscored=()):
    members = [make_member("g", row, 0, changes) for row, changes in overrides.items()]
    for member in members:
        if member["row"] not in unscored:
            bleu = "nan" if member["row"] == "diverged" else 30.0
            write_scores(folder, member, bleu=bleu)
    write_manifest(folder, members)
    return make_rows(read_sweep(folder).members)


def labels(factor, rows):
    return [[row.label for row in line] for line in lines(factor, rows)]


TABLE3 = {
    "base": {},
    "h=8": {"model.num_heads": 8},
    "h=1": {"model.num_heads": 1},
    "d_k=8": {"model.d_k": 8},
    "d_k=16": {"model.d_k": 16},
    "dropout=0": {"train.dropout_rate": 0.0},
    "d_model=64": {"model.d_model": 64},
    "diverged": {"train.dropout_rate": 0.5},
    "narrow h=2": {"model.d_model": 64, "model.num_heads": 2},
    "big": {"model.num_heads": 16, "train.dropout_rate": 0.1},
}


def test_lines_of_the_papers_rows_go_through_base(tmp_path):
    rows = rows_of(tmp_path, TABLE3, unscored=["h=8"])
    # Narrow models differ in their heads only, and are left out since base is none of them.
    assert labels(HEADS, rows) == [["h=1", "base"]]
    assert labels(KEY_SIZE, rows) == [["d_k=8", "d_k=16", "base"]]
    assert labels(DROPOUT, rows) == [["dropout=0", "base"]]
    assert line_names(HEADS, lines(HEADS, rows)) == [""]


def test_heads_of_one_width_make_a_line_too(tmp_path):
    rows = rows_of(
        tmp_path,
        {f"h={h}": {"model.num_heads": h, "model.d_k": 8, "model.d_v": 8} for h in (4, 1, 2)},
    )
    assert labels(HEADS, rows) == [["h=1", "h=2", "h=4"]]


def test_without_base_there_is_a_line_for_each_choice_of_the_rest(tmp_path):
    overrides = {
        f"{heads} {rate}": {"model.num_heads": heads, "optimizer.learning_rate": rate}
        for heads in (2, 1)
        for rate in (0.1, 1.0)
    }
    rows = rows_of(tmp_path, overrides)
    found = lines(HEADS, rows)
    assert [[row.label for row in line] for line in found] == [
        ["1 0.1", "2 0.1"],
        ["1 1.0", "2 1.0"],
    ]
    assert line_names(HEADS, found) == ["learning_rate=0.1", "learning_rate=1"]
    (rate,) = other_factors(rows)
    assert (rate.name, rate.label) == ("optimizer_learning_rate", "optimizer.learning_rate")
    # The widths of heads follow from their number, and are not said.
    assert line_names(rate, lines(rate, rows)) == ["num_heads=2", "num_heads=1"]


def test_settings_have_the_papers_names(tmp_path):
    layers = {f"model.num_{half}coder_layers": 6 for half in ("en", "de")}
    rows = rows_of(
        tmp_path,
        {
            "base": {},
            "a": {"model.num_heads": 2},
            "b": {"model.d_k": 8},
            "c": {**layers, "train.dropout_rate": 0.0},
            "d": {"model.num_encoder_layers": 5, "model.d_model": 64},
            "e": {"model.positions": "my.module:Learned", "train.num_steps": 500},
        },
    )
    assert [settings_name(row, rows[0]) for row in rows] == [
        "",
        "h=2",
        "d_k=8",
        "N=6, dropout=0",
        "d_model=64, num_encoder_layers=5",
        "positions=Learned, steps=500",
    ]


def test_what_is_no_number_is_no_factor(tmp_path):
    rows = rows_of(tmp_path, {"a": {}, "b": {"model.positions": "x:Learned", "model.d_model": 64}})
    assert [factor.label for factor in other_factors(rows)] == ["model.d_model"]


@pytest.mark.parametrize("factor", PAPERS, ids=lambda factor: factor.name)
def test_one_place_is_no_line(tmp_path, factor):
    assert lines(factor, rows_of(tmp_path, {"base": {}, "d_ff=3": {"model.d_ff": 3}})) == []
