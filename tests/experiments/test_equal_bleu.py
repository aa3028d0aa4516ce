"""Trainings with and without a trick: what they differ in, and how they are run."""

import sys

import pytest

from experiments import equal_bleu
from experiments.benchmarks import plain_forms
from jaxformer.model import Dropout
from jaxformer.study.local import PROGRAM, Outcome
from jaxformer.study.manifest import read_manifest


def test_rows_differ_in_the_trick_alone():
    base, float32, threefry = equal_bleu.make_members("runs/x", 1)
    assert (base.row, float32.row, threefry.row) == ("base", "float32", "threefry")
    assert base.config["model"]["product_dtype"] == "bfloat16"
    assert base.config["train"]["dropout_rate"] > 0
    assert threefry.config == base.config
    model = {**float32.config["model"], "product_dtype": "bfloat16"}
    assert {**float32.config, "model": model} == base.config
    assert float32.config["model"]["product_dtype"] == ""
    # The command line says what the config is made of.
    assert "--config.model.product_dtype=bfloat16" in threefry.argv
    assert not any("product_dtype" in word for word in float32.argv)


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Returns the function that runs the script, where members end as they are told to."""
    asked = []

    def run(failure=""):
        def run_local(members, folder, watch, *, jobs, program):
            outcomes = [Outcome(member, 1.0, failure) for member in members]
            asked.extend((member.id, program, jobs) for member in members)
            for outcome in outcomes:
                watch.started(outcome.member)
                watch.ended(outcome)
            return outcomes

        monkeypatch.setattr(equal_bleu, "run_local", run_local)
        folder = tmp_path / "sweep"
        monkeypatch.setattr(
            sys, "argv", ["equal_bleu", f"--workdir={folder}", "--seeds=2", "--jobs=3"]
        )
        return equal_bleu.main(), asked, folder, capsys.readouterr()

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
    assert "equal_bleu/float32/seed=1: finished" in said.out


def test_what_fails_is_said(script):
    code, _, _, said = script("there is no room")
    assert code == 2
    assert said.err.startswith("equal_bleu: equal_bleu/base/seed=0: there is no room; ")
    assert said.err.endswith("The same command tries it again.\n")


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
