"""experiments/table3_variations.py: its intervals cover what they should, and verdicts follow."""

import contextlib
import functools
import json
import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from experiments import table3_variations
from experiments.table3 import pictures
from experiments.table3.order import (
    AGAINST,
    AS_PAPER,
    BLEU,
    NO_DIFFERENCE,
    NO_PAPER,
    NO_SPREAD,
    OPEN,
    PERPLEXITY,
    Difference,
    Row,
    compare,
    find_spread,
    pairs_of_groups,
    read_rows,
)
from experiments.table3.tables import show, tables
from jaxformer.io.plot import picture

BASE_SETTINGS = {"N": 4, "h": 4, "model.positions": "jaxformer.model.positions:Sinusoidal"}


def entry(letter, label, bleus, perplexities, paper, **settings):
    """A row of report.json, as far as it is read."""
    return {
        "group": f"file_{letter}",
        "letter": letter,
        "label": label,
        "settings": {**BASE_SETTINGS, **settings},
        "bleu": {"values": {str(seed): value for seed, value in enumerate(bleus)}},
        "perplexity": {"values": {str(seed): value for seed, value in enumerate(perplexities)}},
        "paper": paper,
    }


def report(*rows):
    return {"version": 1, "rows": list(rows)}


BASE = entry("base", "base", [35.0, 36.0], [7.0, 7.0], {"bleu": 25.8, "perplexity": 4.92})
WORSE = entry("A", "h=1", [30.0, 30.0], [8.0, 8.4], {"bleu": 24.9, "perplexity": 5.29}, h=1)
BETTER = entry("A", "h=4", [40.0, 41.0], [6.0, 6.1], {"bleu": 25.5, "perplexity": 5.0}, h=2)
EQUAL = entry("A", "h=16", [35.4], [7.1], {"bleu": 25.8, "perplexity": 4.91}, h=8)
OURS = entry("D", "dropout=0.3", [33.0], [7.7], {})
LEARNED = entry(
    "E",
    "learned",
    [35.2],
    [7.0],
    {"bleu": 25.7},
    **{"model.positions": "jaxformer.model.positions:Learned"},
)
MISSING = entry("big", "big", [], [], {"bleu": 26.4, "perplexity": 4.33})


@pytest.fixture
def read(tmp_path):
    """Returns the function that reads a report of these rows."""

    def read_report(*entries):
        (tmp_path / "report.json").write_text(json.dumps(report(*entries)))
        return read_rows(tmp_path / "report.json")

    return read_report


@pytest.fixture
def rows(read):
    return read(WORSE, BETTER, EQUAL, OURS, LEARNED, MISSING, BASE)


def row(*values):
    return Row("g", "r", {}, {BLEU.key: values}, {})


def test_rows_without_scores_are_left_out_and_base_is_first(rows):
    assert [each.label for each in rows] == [
        "base", "h=1", "h=4", "h=16", "dropout=0.3", "learned"
    ]  # fmt: skip
    assert rows[0].settings == {}
    assert rows[1].settings == {"h": 1}
    assert rows[-1].settings == {"positions": "jaxformer.model.positions:Learned"}


def test_a_training_that_diverged_is_left_out(read):
    diverged = entry("A", "h=1", [30.0, 0.0], [8.0, "inf"], {"bleu": 24.9, "perplexity": 5.29})
    wholly = entry("A", "h=4", [0.0], ["nan"], {"bleu": 25.5, "perplexity": 5.0})
    base, row = read(BASE, diverged, wholly)
    assert row.values == {"bleu": [30.0], "perplexity": [8.0]}
    assert base.label == "base"


def test_the_spread_is_pooled_over_rows():
    # (35, 36) and (30, 30) and (1, 2, 6): squares 0.5 + 0 + 14, degrees 1 + 1 + 2.
    spread = find_spread([row(35.0, 36.0), row(30.0, 30.0), row(9.0), row(1.0, 2.0, 6.0)], BLEU)
    assert spread is not None
    assert spread == (pytest.approx(math.sqrt(14.5 / 4)), 4)
    # 2.7764 is the 97.5% point of Student's t with 4 degrees of freedom, by any table.
    assert spread.margin(2, 1) == pytest.approx(2.7764 * math.sqrt(14.5 / 4 * 1.5), rel=1e-4)
    assert find_spread([row(35.0), row(30.0)], BLEU) is None


def test_perplexities_are_compared_as_logarithms(rows):
    found = compare(rows[1], rows[0], PERPLEXITY, find_spread(rows, PERPLEXITY))
    assert found.measured == pytest.approx(math.log(8.0 * 8.4) / 2 - math.log(7.0))
    assert found.paper == pytest.approx(math.log(5.29 / 4.92))
    assert show(math.log(1.25), PERPLEXITY) == "+25.0%"
    assert show(math.log(1.2), PERPLEXITY, math.log(2)) == "+20.0% (-40.0% to +140.0%)"
    assert show(-0.4, BLEU, 0.25) == "-0.40 (-0.65 to -0.15)"


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Difference(-2.0, 1.0, -0.9), AS_PAPER),
        (Difference(2.0, 1.0, 0.9), AS_PAPER),
        (Difference(2.0, 1.0, -0.9), AGAINST),
        (Difference(-2.0, 1.0, 0.9), AGAINST),
        (Difference(0.9, 1.0, 0.9), OPEN),
        (Difference(-1.0, 1.0, 0.9), OPEN),
        (Difference(2.0, 1.0, 0.0), NO_DIFFERENCE),
        (Difference(2.0, 1.0, None), NO_PAPER),
        (Difference(2.0, None, 0.9), NO_SPREAD),
    ],
)
def test_verdicts(difference, verdict):
    assert difference.verdict == verdict


def test_the_interval_covers_the_true_difference():
    """By drawing: rows of one to three trainings about means of their own, with one deviation."""
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        drawn = [row(*draw.normal(mean, 0.7, size)) for mean, size in ((30, 2), (31, 1), (40, 3))]
        found = compare(drawn[1], drawn[0], BLEU, find_spread(drawn, BLEU))
        assert found.margin is not None
        covered += abs(found.measured - 1.0) <= found.margin
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_pairs_of_a_group_are_all_of_it_and_base(rows):
    pairs = pairs_of_groups(rows, BLEU)
    assert {group: len(found) for group, found in pairs.items()} == {
        "A": 6, "D": 1, "E": 1
    }  # fmt: skip
    # h=4 less h=1, then what the paper has for them.
    assert any(
        pair.measured == pytest.approx(10.5) and pair.paper == pytest.approx(0.6)
        for pair in pairs["A"]
    )


def test_the_tables_say_what_the_rows_do(rows):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables(rows).splitlines()]
    bleu = lines.index(next(line for line in lines if line[4:5] == ["BLEU"]))
    found = {line[1]: line for line in lines[bleu + 2 :] if len(line) == 8}
    # (35, 36), (30, 30), (40, 41): a variance of 1 / 3; t with 3 degrees of freedom is 3.1824.
    margin = 3.1824 * math.sqrt(1 / 3)
    assert found["base"] == ["", "base", "", "2", "35.50", "", "", ""]
    assert found["h=1"][2:] == [
        *("h 1", "2", "30.00", f"-5.50 ({-5.5 - margin:.2f} to {-5.5 + margin:.2f})", "-0.90"),
        "as in the paper",
    ]
    assert found["h=4"][6:] == ["-0.30", "against the paper"]
    assert found["h=16"][6:] == ["+0.00", "equal in the paper"]
    assert found["dropout=0.3"][6:] == ["", "not in the paper"]
    assert found["learned"][2] == "positions Learned"
    assert found["learned"][7] == "cannot be told"
    # Logarithms are averaged: of 8 and 8.4.
    assert ["A", "h=1", "h 1", "2", f"{math.sqrt(8 * 8.4):.2f}"] in [line[:5] for line in lines]
    # h=1 is below base, h=4 and h=16 are above h=1; h=4 is above base and h=16.
    pairs = {line[0]: line[3:] for line in lines if len(line) == 5}
    assert pairs["A"] == ["3 (3)", "2 (2)"]
    assert pairs["E"] == ["1 (0)", "0 (0)"]


def test_without_a_spread_there_is_no_interval_and_no_verdict(read):
    one = entry("base", "base", [35.0], [7.0], {"bleu": 25.8, "perplexity": 4.92})
    same = entry("D", "dropout=0.2", [35.0], [7.0], {"bleu": 25.5, "perplexity": 4.95})
    text = tables(read(one, EQUAL, LEARNED, same))
    assert text.count("No row has two trainings") == 2
    assert (
        "| E | learned | positions Learned | 1 | 35.20 | +0.20 | -0.10 | no spread known |" in text
    )
    # h=16 is 0.01 better in the paper's perplexity and worse here; a row that is equal is no pair.
    assert "| A | 0 | 1 | 0 | 0 |" in text
    assert "| D | 0 | 0 | 0 | 0 |" in text
    assert "In brackets" not in text


@pytest.fixture
def run(run_script):
    return functools.partial(run_script, table3_variations)


def test_the_page_has_the_tables_and_the_picture_lies_beside_it(run, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(report(BASE, WORSE, BETTER)))
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- tables: measured -->\n<!-- tables: end -->\nAfter.\n")
    code, out, _ = run(f"--output={tmp_path}", f"--page={page}")
    assert code == 0
    text = (tmp_path / "order.md").read_text(encoding="utf-8")
    assert text in page.read_text(encoding="utf-8")
    assert text in out
    assert "After." in page.read_text(encoding="utf-8")
    assert (tmp_path / "page" / "order.svg").read_text(encoding="utf-8").count("<!-- h=") == 4
    code, _, _ = run(f"--output={tmp_path}")
    assert code == 0
    assert (tmp_path / "order.png").is_file()


@pytest.mark.parametrize("has_spread", [True, False])
def test_the_picture_has_the_paper_below_and_better_above(read, tmp_path, monkeypatch, has_spread):
    figures = []

    @contextlib.contextmanager
    def keep(*arguments):
        with picture(*arguments) as figure:
            yield figure
            figures.append(figure)

    monkeypatch.setattr(pictures, "picture", keep)
    paper = {"bleu": 26.3, "perplexity": 4.67}
    at_the_edge = entry("D", "smoothing=0.0", [35.0], [6.9], paper)
    rows = read(BASE, WORSE, BETTER, OURS, at_the_edge)
    if not has_spread:
        monkeypatch.setattr(pictures, "find_spread", lambda rows, measure: None)
    pictures.draw(rows, tmp_path)
    perplexity, bleu = figures[0].axes
    for axes, of_paper, here in (
        (perplexity, 100 * math.log(4.92 / 5.29), 100 * math.log(7 / math.sqrt(8 * 8.4))),
        (bleu, -0.9, -5.5),
    ):
        names = {text.get_text(): text for text in axes.texts}
        assert set(names) == {"h=1", "h=4", "smoothing=0.0"}
        assert names["h=1"].xy == (pytest.approx(of_paper), pytest.approx(here))
        for text in names.values():
            assert text.get_window_extent().x1 <= axes.get_window_extent().x1
        # What is grey has opposite signs: the middle of each of the two is neither's.
        for part in axes.collections:
            (x, y) = part.get_paths()[0].vertices.mean(axis=0)
            assert x * y < 0 or isinstance(part, LineCollection)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": []}, "report.json is no report of a sweep in version 1. Write it with"),
        ({"version": 1, "rows": None}, "no report of a sweep"),
        ({"version": 1, "rows": [{}]}, "no report of a sweep"),
        ({"version": 1, "rows": [3]}, "no report of a sweep"),
        (report({**WORSE, "paper": {}}, {**BASE, "paper": {}}), "has figures of the paper. Give"),
        (report(WORSE), "has no scores of base"),
        (None, "report.json"),
    ],
)
def test_mistakes_are_one_sentence(run, tmp_path, content, message):
    if content is not None:
        (tmp_path / "report.json").write_text(json.dumps(content))
    code, _, errors = run(f"--output={tmp_path}")
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "order.md").exists()


def test_a_page_without_marks_is_found_before_anything_is_written(run, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(report(BASE, WORSE)))
    page = tmp_path / "page.md"
    page.write_text("No marks.\n")
    code, _, errors = run(f"--output={tmp_path}", f"--page={page}")
    assert code == 2
    assert "lacks the lines <!-- tables: measured -->" in errors
    assert page.read_text() == "No marks.\n"
    assert not (tmp_path / "order.md").exists()
