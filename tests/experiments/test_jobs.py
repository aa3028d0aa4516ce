"""The benchmark of trainings beside each other: who runs where, and what it makes of the rates."""

import json
import os
import sys
import threading

import pytest

from experiments.benchmarks import jobs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cores can be chosen on Linux only")


def test_two_at_once_share_all_cores_or_have_as_many_each(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5})
    ways = jobs.make_ways()
    assert (ways["one"], ways["shared"]) == ([set()], [set(), set()])
    assert [len(cores) for cores in ways["apart"]] == [1, 1]
    assert len(set().union(*ways["apart"])) == 2


def test_a_record_has_the_sums_and_the_ratios_to_one(monkeypatch, tmp_path, capsys):
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two cores")
    asked, both = [], threading.Barrier(2, timeout=60)
    # Of each way the processes that run at once, in the order of a warm-up and two passes.
    at_once = iter([1, 2, 2, 1, 2, 2, 2, 2, 1])
    now = []

    def run_alone(python, module, arguments, **given):
        here = os.sched_getaffinity(0)
        asked.append((here, arguments))
        if now[-1] > 1:
            # They are, or this would wait for ever.
            both.wait()
        return {"tokens_per_second": 30.0 if len(here) < len(cores) else 40.0, "loss": 7.0}

    def train(*arguments, **options):
        now.append(next(at_once))
        return real(*arguments, **options)

    real = jobs.train
    monkeypatch.setattr(jobs, "train", train)
    monkeypatch.setattr(jobs, "run_alone", run_alone)
    out = tmp_path / "jobs.json"
    words = [f"--out={out}", "--size=smoke", "--passes=2", "--product_dtype=bfloat16"]
    monkeypatch.setattr(sys, "argv", ["jobs", *words])
    assert jobs.main() == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    alone, apart = ({"tokens_per_second": rate, "loss": 7.0} for rate in (40.0, 30.0))
    assert record["results"] == {
        "one": [[alone]] * 2,
        "shared": [[alone] * 2] * 2,
        "apart": [[apart] * 2] * 2,
    }
    assert record["tokens_per_second"]["apart"]["median"] == 60.0
    assert record["ratios_to_one"]["apart"] == {"median": 1.5, "least": 1.5, "most": 1.5}
    assert record["ratios_to_one"]["shared"]["median"] == 2.0
    # A pass before those that count, and half of the cores for each where they are apart.
    assert len(asked) == 3 * 5
    parts = [here for here, _ in asked if len(here) < len(cores)]
    assert len(parts) == 3 * 2
    assert {frozenset(part) for part in parts} == {
        frozenset(part) for part in record["settings"]["cores"]["apart"]
    }
    assert all("--product_dtype=bfloat16" in arguments for _, arguments in asked)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ratios_to_one"]


def test_a_single_core_is_refused_in_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4})
    monkeypatch.setattr(sys, "argv", ["jobs", f"--out={tmp_path / 'x.json'}"])
    assert jobs.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("jobs: Two trainings need a core each")


def test_a_record_without_a_folder_is_refused_before_anything_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jobs", "--out=nowhere/x.json"])
    with pytest.raises(SystemExit):
        jobs.main()
    said = capsys.readouterr().err
    assert said.endswith("jobs: error: --out=nowhere/x.json is in no folder; make it\n")
