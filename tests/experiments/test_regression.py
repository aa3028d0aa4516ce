"""Two commits beside each other: what counts as slower, and how they are checked out."""

import subprocess
import sys

import pytest

from experiments.benchmarks import regression
from experiments.shared import processes


@pytest.mark.parametrize(
    ("after", "code", "worse"),
    [
        ([95.0, 100.0, 104.0], 0, 0),
        ([80.0, 90.0, 200.0], 1, 1),
    ],
)
def test_a_slower_commit_is_found(capsys, after, code, worse):
    found = {"train tiny": ({"tokens_per_second": [100.0] * 3}, {"tokens_per_second": after})}
    assert regression.judge(found, 0.05) == code
    assert capsys.readouterr().out.count("WORSE") == worse


def test_more_memory_is_worse_and_less_is_not(capsys):
    def grown(to):
        return {"train tiny": ({"peak_bytes": [100]}, {"peak_bytes": [to]})}

    assert regression.judge(grown(120), 0.05) == 1
    assert regression.judge(grown(50), 0.05) == 0
    assert "B / A 0.500" in capsys.readouterr().out


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Returns the function that runs git in a repository of one commit, which stands for ours."""
    folder = tmp_path / "repository"
    (folder / "jaxformer").mkdir(parents=True)
    (folder / "jaxformer" / "train.py").write_text("old\n", encoding="utf-8")
    monkeypatch.setattr(regression, "ROOT", folder)

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=one")
    (folder / "jaxformer" / "train.py").write_text("new\n", encoding="utf-8")
    return git


def test_what_is_no_commit_is_one_sentence(repository, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["regression", "HEAD", "no-such-commit"])
    with pytest.raises(SystemExit) as raised:
        regression.main()
    assert raised.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("'no-such-commit' is no commit here")


def test_a_commit_is_checked_out_with_this_benchmark_and_removed(repository, tmp_path):
    folder = tmp_path / "A"
    with regression.checkout("HEAD", folder) as tree:
        assert (tree / "jaxformer" / "train.py").read_text(encoding="utf-8") == "old\n"
        copy = tree / "experiments" / "benchmarks" / "regression.py"
        assert copy.read_bytes() == (processes.ROOT / copy.relative_to(tree)).read_bytes()
    assert not folder.exists()
    assert len(repository("worktree", "list").splitlines()) == 1
