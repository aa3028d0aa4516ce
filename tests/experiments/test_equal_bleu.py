"""Trainings with and without a trick: what they differ in, and how they are run."""

import json
import sys
from dataclasses import replace

import pytest

from experiments import equal_bleu
from experiments.benchmarks import plain_forms
from jaxformer.model import Dropout
from jaxformer.study.local import PROGRAM, Outcome
from jaxformer.study.manifest import Manifest, read_manifest, write_manifest


def test_rows_differ_in_the_trick_alone():
    base, plain, threefry = equal_bleu.make_members("runs/x", 1)
    assert (base.row, plain.row, threefry.row) == ("base", "plain_products", "threefry")
    assert base.config["model"]["product_dtype"] == "bfloat16"
    assert base.config["train"]["dropout_rate"] > 0
    assert threefry.config == base.config
    model = {**plain.config["model"], "product_dtype": "bfloat16"}
    assert {**plain.config, "model": model} == base.config
    assert plain.config["model"]["product_dtype"] == ""
    # The command line says what the config is made of.
    assert "--config.model.product_dtype=bfloat16" in threefry.argv
    assert not any("product_dtype" in word for word in plain.argv)


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Returns the function that runs the script, where members end as they are told to."""
    asked, calls = [], []

    def run(failure="", seeds=2):
        def run_local(members, folder, watch, *, jobs, program):
            outcomes = [Outcome(member, 1.0, failure) for member in members]
            calls.append(len(members))
            asked.extend((member.id, program, jobs) for member in members)
            for outcome in outcomes:
                watch.started(outcome.member)
                watch.ended(outcome)
            return outcomes

        monkeypatch.setattr(equal_bleu, "run_local", run_local)
        folder = tmp_path / "sweep"
        monkeypatch.setattr(
            sys, "argv", ["equal_bleu", f"--workdir={folder}", f"--seeds={seeds}", "--jobs=3"]
        )
        code = equal_bleu.main()
        # As many at a time as have the same program.
        assert calls in ([], [2 * seeds, seeds])
        calls.clear()
        return code, asked, folder, capsys.readouterr()

    return run


def test_each_row_is_run_with_its_form_and_the_folder_is_a_sweep(script):
    code, asked, folder, said = script()
    assert code == 0
    assert len(read_manifest(folder).members) == len(asked) == 6
    assert all(jobs == 3 for _, _, jobs in asked)
    for name, program, _ in asked:
        if "threefry" in name:
            assert program[1:] == (
                "-m", "experiments.benchmarks.plain_forms", "threefry_dropout", "jaxformer",
            )  # fmt: skip
        else:
            assert program == PROGRAM
    assert "equal_bleu/plain_products/seed=1: finished" in said.out


def test_fewer_seeds_leave_the_others_on_the_manifest(script):
    script(seeds=2)
    code, _, folder, _ = script(seeds=1)
    assert code == 0
    assert [member.seed for member in read_manifest(folder).members] == [0, 0, 0, 1, 1, 1]


def test_another_sweep_is_left_as_it_is(script, tmp_path):
    (member, *_) = equal_bleu.make_members("x", 1)
    other = replace(member, group="a_heads", id="a_heads/h=1/seed=0")
    write_manifest(tmp_path / "sweep", Manifest("laptop", [other]))
    code, asked, folder, said = script()
    assert (code, asked) == (2, [])
    assert "is the folder of a sweep of a_heads. Give another." in said.err
    assert read_manifest(folder).members == [other]


def test_a_member_that_was_trained_otherwise_is_refused(script, tmp_path):
    member = equal_bleu.make_members("x", 1)[0]
    workdir = tmp_path / "sweep" / member.workdir
    workdir.mkdir(parents=True)
    config = {**member.config, "train": {**member.config["train"], "num_steps": 7}}
    (workdir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    code, asked, _, said = script()
    assert (code, asked) == (2, [])
    assert "num_steps" in said.err


def test_what_fails_is_said(script):
    code, _, _, said = script("There is no room.")
    assert code == 2
    assert said.err.startswith("equal_bleu: equal_bleu/base/seed=0: There is no room; ")
    assert said.err.endswith("There is no room. The same command tries again what has failed.\n")


def test_a_command_is_run_with_the_form_in_its_place(monkeypatch):
    before, given = Dropout.__call__, []
    monkeypatch.setattr(Dropout, "__call__", before)

    def command(words):
        given.append((words, Dropout.__call__))
        return 7

    monkeypatch.setattr(plain_forms, "jaxformer_main", command)
    words = ["train", "--config=a.py:b", "--config.train.seed=1", "--workdir=x"]
    monkeypatch.setattr(sys, "argv", ["plain_forms", "threefry_dropout", "jaxformer", *words])
    assert plain_forms.main() == 7
    ((arguments, dropout),) = given
    assert arguments == words
    assert dropout is not before
