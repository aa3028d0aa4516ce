"""What machines elsewhere get of a folder: by git's rules, or by .dockerignore's."""

import subprocess

import pytest

from jaxformer.cli.mistakes import Mistake
from jaxformer.cli.sent import check_data_is_sent, check_is_sent, left_out_by

DOCKERIGNORE = "# What is large.\nruns\n.venv-*\n**/cache\nbuild/out\n!runs/kept\n"


@pytest.fixture(autouse=True)
def _start_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("runs", True),
        ("runs/a/b", True),
        ("runs/kept/b", False),
        ("my/runs", False),
        ("runs2", False),
        (".venv-tpu/x", True),
        ("a/b/cache/c", True),
        ("cache", True),
        ("build", False),
        ("build/./out/x", True),
    ],
)
def test_what_an_image_leaves_out(tmp_path, path, left_out):
    (tmp_path / ".dockerignore").write_text(DOCKERIGNORE, "utf-8")
    for place in (path, tmp_path / path):
        assert left_out_by(place, "xpk") == (".dockerignore" if left_out else "")


def test_what_git_ignores(tmp_path, monkeypatch):
    (tmp_path / ".gitignore").write_text("/mine*.py\n", "utf-8")
    (tmp_path / "mine1.py").touch()
    # No repository has no rules.
    check_is_sent("mine1.py", "skypilot")
    subprocess.run(["git", "init", "--quiet"], check=True)
    for executor in ("skypilot", "gcloud"):
        with pytest.raises(Mistake, match=r"^mine1.py is not sent to the machines: git leaves it"):
            check_is_sent("mine1.py", executor)
    check_is_sent("other.py", "skypilot")
    check_is_sent("mine1.py", "xpk")
    subprocess.run(["git", "add", "--force", "mine1.py"], check=True)
    check_is_sent("mine1.py", "skypilot")
    monkeypatch.setenv("PATH", "")
    check_is_sent("mine2.py", "skypilot")


@pytest.mark.parametrize("executor", ["skypilot", "xpk"])
def test_text_is_named_from_here(tmp_path, executor):
    here = {"data_dir": "text", "manual_dir": "", "train_source": "a/train.en", "source": "/en"}
    check_data_is_sent(here, executor)
    absolute = {"train_source": f"{tmp_path}/a/train.en"}
    with pytest.raises(Mistake, match=r"^data.train_source=/.* Name it from here: a/train.en\.$"):
        check_data_is_sent(absolute, executor)
    check_data_is_sent(absolute, executor, is_resolved=True)
    for elsewhere in ("/data", "~/data", "../data"):
        for is_resolved in (False, True):
            with pytest.raises(Mistake, match=rf"^data.data_dir={elsewhere} is not in /"):
                check_data_is_sent({"data_dir": elsewhere}, executor, is_resolved=is_resolved)
