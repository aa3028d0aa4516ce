"""experiments/table2_translation.py: the paper's own count comes out, and nothing is made up."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "table2_translation.py"


@pytest.fixture
def table2(monkeypatch, capsys):
    """Returns the function that runs the script: (exit code, what it printed, errors)."""

    def run(*argv):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, argv)])
        code = runpy.run_path(str(SCRIPT))["main"]()
        return code, *capsys.readouterr()

    return run


def write_evaluation(workdir, **changes):
    record = {
        "sentences": 3003,
        "bleu": 26.44,
        "bleu_signature": "nrefs:1",
        "published_protocol": {"protocol": "paper", "bleu": 27.26},
        **changes,
    }
    (workdir / "evaluation").mkdir(parents=True)
    load = runpy.run_path(str(SCRIPT))["load"]
    config = load("wmt14_en_de.py:base")
    config["train"]["num_steps"] = 50_000
    (workdir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (workdir / "evaluation" / "test.json").write_text(json.dumps(record), encoding="utf-8")
    return workdir


def rows_of(out):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[2:]]
    return {line[0]: line[1:] for line in lines}


def test_what_was_not_run_says_so_and_the_papers_count_is_the_papers(table2):
    code, out, _ = table2()
    assert code == 0
    rows = rows_of(out)
    # Table 2: 3.3e18 and 2.3e19.
    assert rows["en-de/base"][:4] == ["27.3", "not run", "not run", "3.3e+18"]
    assert rows["en-fr/big"][:4] == ["41.8", "not run", "not run", "2.3e+19"]
    # About 6 operations a parameter and target token, the rule of thumb: 63 and 214 millions.
    for name, parameters, steps in (("base", 63e6, 100_000), ("big", 214e6, 300_000)):
        assert float(rows[f"en-de/{name}"][4]) == pytest.approx(
            6 * parameters * 25_000 * steps, rel=0.1
        )


def test_the_table_of_the_records_is_what_the_script_writes(table2):
    path = SCRIPT.parent / "results" / "table2" / "table2.md"
    assert path.read_text(encoding="utf-8") == table2()[1]


def test_a_run_that_was_scored_stands_beside_the_paper(table2, tmp_path):
    workdir, output = write_evaluation(tmp_path / "run"), tmp_path / "table2.md"
    code, out, _ = table2(f"en-de/base={workdir}", f"--output={output}")
    assert code == 0
    assert rows_of(out)["en-de/base"][:3] == ["27.3", "27.3", "26.4 (nrefs:1)"]
    assert rows_of(out)["en-de/big"][1] == "not run"
    # Of the run's own steps.
    ours, papers = (float(rows_of(out)[f"en-{to}/base"][4]) for to in ("de", "fr"))
    assert ours == pytest.approx(papers / 2 * 37 / 36, rel=0.1)
    assert output.read_text(encoding="utf-8") == out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (None, "is missing. Run `jaxformer evaluate"),
        ({"published_protocol": {"protocol": "multi_bleu_lc"}}, "has no BLEU by the paper's"),
        ({"sentences": 3000}, "is of 3,000 sentences, and newstest2014 has 3,003"),
    ],
)
def test_a_run_that_is_no_result(table2, tmp_path, changes, said):
    workdir = tmp_path / "run"
    if changes is not None:
        write_evaluation(workdir, **changes)
    code, out, err = table2(f"en-de/base={workdir}")
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_an_unknown_row(table2):
    code, _, err = table2("en-es/base=x")
    assert code == 2
    assert "'en-es/base=x' is not ROW=WORKDIR; the rows are en-de/base, en-de/big" in err
