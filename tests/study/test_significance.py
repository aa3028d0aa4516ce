import copy
import json
import os

import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from jaxformer.study.records import read_sweep
from jaxformer.study.rows import make_rows
from jaxformer.study.significance import NoReferences, compare
from jaxformer.study.summary import earlier_p_values, summarise
from tests.study.sweeps import (
    make_member,
    make_references,
    make_translations,
    write_finished,
    write_manifest,
    write_scores,
)


@pytest.fixture
def make_sweep(tmp_path):
    """Returns a function from {row: [quality of each seed]} to rows."""

    def make(qualities, **scores):
        members = []
        for row, values in qualities.items():
            for seed, quality in enumerate(values):
                members.append(make_member("g", row, seed))
                if quality is not None:
                    write_finished(tmp_path, members[-1], quality, **scores)
        write_manifest(tmp_path, members)
        return make_rows(read_sweep(tmp_path).members)

    return make


def references(config):
    return make_references()


def nowhere(config):
    raise NoReferences("there is no such text")


def test_p_is_that_of_sacrebleu(make_sweep, monkeypatch):
    rows = make_sweep({"base": [0.8, 0.8], "worse": [0.7, 0.75]})
    # Whatever the user's environment says, a report is the same.
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    found = compare(rows, references)
    assert os.environ["SACREBLEU_SEED"] == "none"
    assert list(found) == [1]
    monkeypatch.delenv("SACREBLEU_SEED")
    for seed in (0, 1):
        systems = [(row.label, row.scores[seed].translations) for row in rows]
        test = PairedTest(systems, {"BLEU": BLEU()}, [make_references()], test_type="bs")
        base, worse = test()[1]["BLEU"]
        assert found[1].p_values[seed] == worse.p_value
        assert found[1].difference.values[seed] == pytest.approx(worse.score - base.score)
    assert compare(rows, references)[1].p_values == found[1].p_values
    assert "SACREBLEU_SEED" not in os.environ


def test_the_largest_p_counts(make_sweep):
    found = compare(make_sweep({"base": [0.9, 0.8], "worse": [0.4, 0.7]}), references)[1]
    assert found.agrees
    assert found.p == max(found.p_values.values()) > min(found.p_values.values())


def test_seeds_that_disagree_have_no_p(make_sweep):
    found = compare(make_sweep({"base": [0.9, 0.5], "row": [0.5, 0.9]}), references)[1]
    assert max(found.p_values.values()) < 0.05
    assert not found.agrees
    assert found.p is None


def test_the_same_translations_differ_in_nothing(make_sweep):
    text = make_translations(0.8, 1)
    bleu = BLEU().corpus_score(text, [make_references()]).score
    rows = make_sweep({"base": [0.8], "same": [0.8]}, translations=text, bleu=bleu)
    found = compare(rows, references)[1]
    assert (found.difference.mean, found.p) == (0.0, 1.0)


def test_only_seeds_that_both_have_are_compared(make_sweep):
    rows = make_sweep({"base": [0.8, 0.8, None], "some": [None, 0.7, 0.7], "none": [None] * 3})
    found = compare(rows, references)
    assert list(found) == [1]
    assert list(found[1].p_values) == list(found[1].difference.values) == [1]


def test_without_a_base_nothing_is_compared(make_sweep):
    assert compare(make_sweep({"one": [0.8], "two": [0.7]}), references) == {}


WHY_NOT = {
    "no corpus": (nowhere, {}, "there is no such text"),
    "no translations": (references, {"translations": None}, "the translations have not been kept"),
    "another corpus": (
        lambda config: make_references()[:-1],
        {},
        "the corpus has 39 references on this machine, where 40 sentences were scored",
    ),
    "other references": (
        lambda config: make_references()[::-1],
        {},
        "on this machine's corpus the translations score ",
    ),
    "other scores": (references, {"bleu": 12.3}, ", where 12.30 is on record"),
}


@pytest.mark.parametrize("name", WHY_NOT)
def test_what_cannot_be_computed_says_why(make_sweep, name):
    find, scores, why_not = WHY_NOT[name]
    found = compare(make_sweep({"base": [0.8], "row": [0.7]}, **scores), find)[1]
    assert why_not in found.why_not
    assert (found.p, found.p_values) == (None, {})
    assert set(found.difference.values) == {0}


def report_of(folder):
    """Returns the rows, and what report.json would say of them."""
    sweep = read_sweep(folder)
    rows = make_rows(sweep.members)
    return rows, json.loads(json.dumps(summarise(sweep, rows, compare(rows, references))))


def test_what_can_no_longer_be_computed_is_an_earlier_reports(make_sweep, tmp_path):
    make_sweep({"base": [0.8, 0.8], "row": [0.7, 0.75]})
    _, report = report_of(tmp_path)
    p_values = {int(seed): p for seed, p in report["rows"][1]["comparison"]["p_values"].items()}
    assert set(p_values) == {0, 1}
    (tmp_path / "g" / "row" / "seed=1" / "translations" / "valid.txt").unlink()
    rows, without = report_of(tmp_path)
    lost = "the translations have not been kept"
    # That of the other seed is not lost with it, though it is no p of the row.
    assert without["rows"][1]["comparison"] == report["rows"][1]["comparison"] | {
        "p": None, "p_values": {"0": p_values[0]}, "why_not": lost,
    }  # fmt: skip
    earlier = earlier_p_values(report, "valid")
    found = compare(rows, references, earlier)[1]
    assert (found.p_values, found.earlier, found.why_not) == (p_values, (1,), "")
    assert found.p == max(p_values.values())
    # Neither is there a corpus.
    found = compare(rows, nowhere, earlier)[1]
    assert (found.p_values, found.earlier) == (p_values, (0, 1))
    # What is there and differs is not lost.
    found = compare(rows, lambda config: make_references()[::-1], earlier)[1]
    assert (found.p_values, found.p) == ({1: p_values[1]}, None)
    assert "on this machine's corpus the translations score" in found.why_not
    for index in (0, 1):
        # One of the two has been trained again, and has another score.
        changed = copy.deepcopy(report)
        changed["rows"][index]["bleu"]["values"]["1"] += 0.01
        found = compare(rows, references, earlier_p_values(changed, "valid"))[1]
        assert (set(found.p_values), found.earlier, found.why_not) == ({0}, (), lost)
    assert earlier_p_values(report, "test") == {}
    assert earlier_p_values(report | {"version": 2}, "valid") == {}


@pytest.mark.parametrize("report", [None, [], {}, {"rows": 1}, {"rows": [{"comparison": 1}]}])
def test_what_is_no_report_has_no_p(report):
    assert earlier_p_values(report, "valid") == {}
    if isinstance(report, dict):
        assert earlier_p_values({"version": 1, "split": "valid"} | report, "valid") == {}


@pytest.mark.parametrize("p", ["nan", "0.5", 7, -0.1, True, None, 10**400])
def test_of_a_damaged_report_the_sound_rows_count(make_sweep, tmp_path, p):
    make_sweep({"base": [0.8], "row": [0.7], "other": [0.6]})
    _, report = report_of(tmp_path)
    assert set(earlier_p_values(report, "valid")) == {("g", "row", 0), ("g", "other", 0)}
    report["rows"][1]["comparison"]["p_values"]["0"] = p
    assert set(earlier_p_values(report, "valid")) == {("g", "other", 0)}
    report["rows"][2]["base"] = "base"
    assert earlier_p_values(report, "valid") == {}


def test_rows_of_another_text_are_not_compared_with_base(tmp_path):
    members = [make_member("g", "base", 0), make_member("g", "row", 0, {"data.corpus": "other"})]
    for member in members:
        write_scores(tmp_path, member, translations=make_references(), bleu=100.0)
    write_manifest(tmp_path, members)
    rows = make_rows(read_sweep(tmp_path).members)

    def find(config):
        return make_references() if config["data"]["corpus"] == "other" else ["a"] * 40

    assert compare(rows, find)[1].why_not == "its references are not those of base"


def test_references_are_read_once(make_sweep):
    asked = []

    def find(config):
        asked.append(config)
        return nowhere(config)

    rows = make_sweep({"base": [0.8, 0.8], "one": [0.7, 0.7], "two": [0.7, 0.7]})
    assert set(compare(rows, find)) == {1, 2}
    assert len(asked) == 1
