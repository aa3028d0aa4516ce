"""The benchmark of trainings beside each other: who runs where, and what it makes of the rates."""

import json
import os
import sys
import threading

import pytest

from experiments.benchmarks import jobs
from jaxformer.study.cores import ANY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cores can be chosen on Linux only")


def test_two_at_once_share_all_cores_or_have_half_each():
    assert jobs.make_ways([0, 3, 5, 6]) == {
        "one": [ANY],
        "shared": [ANY, ANY],
        "apart": [{0, 3}, {5, 6}],
    }


def test_a_record_has_the_sums_and_the_ratios_to_one(monkeypatch, tmp_path, capsys):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    asked, both = [], threading.Barrier(2, timeout=60)

    def run_alone(python, module, arguments, **given):
        here = os.sched_getaffinity(0)
        asked.append((here, arguments))
        if len(here) < len(found):
            # Two at once, or this would wait for ever.
            both.wait()
            return {"tokens_per_second": 30.0}
        return {"tokens_per_second": 40.0}

    found = jobs.cores()
    monkeypatch.setattr(jobs, "run_alone", run_alone)
    out = tmp_path / "jobs.json"
    words = [f"--out={out}", "--size=smoke", "--passes=2", "--product_dtype=bfloat16"]
    monkeypatch.setattr(sys, "argv", ["jobs", *words])
    assert jobs.main() == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["results"] == {
        "one": [[40.0]] * 2,
        "shared": [[40.0, 40.0]] * 2,
        "apart": [[30.0, 30.0]] * 2,
    }
    assert record["tokens_per_second"]["apart"]["median"] == 60.0
    assert record["ratios_to_one"]["apart"] == {"median": 1.5, "least": 1.5, "most": 1.5}
    assert record["ratios_to_one"]["shared"]["median"] == 2.0
    # A pass before those that count, and half of the cores for each where they are apart.
    assert len(asked) == 3 * 5
    halves = [here for here, _ in asked if len(here) < len(found)]
    assert set().union(*halves) == set(found)
    assert all("--product_dtype=bfloat16" in arguments for _, arguments in asked)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ratios_to_one"]


def test_a_single_core_is_refused_in_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4})
    monkeypatch.setattr(sys, "argv", ["jobs", f"--out={tmp_path / 'x.json'}"])
    assert jobs.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("jobs: Two trainings need two cores, and this process may run on 1.")


def test_a_record_without_a_folder_is_refused_before_anything_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jobs", "--out=nowhere/x.json"])
    with pytest.raises(SystemExit):
        jobs.main()
    said = capsys.readouterr().err
    assert said.endswith("jobs: error: --out=nowhere/x.json is in no folder; make it\n")
