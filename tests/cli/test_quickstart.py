"""experiments/quickstart.py: examples and pictures of a run, whatever it was trained on."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "experiments" / "quickstart.py"


@pytest.fixture
def quickstart(monkeypatch):
    """Returns the function that runs the script."""

    def run(workdir):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), f"--workdir={workdir}"])
        return runpy.run_path(str(SCRIPT))["main"]()

    return run


def test_examples_and_pictures(trained, jaxformer, quickstart, tmp_path, capsys, corpus):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    assert jaxformer("evaluate", f"--workdir={workdir}", "--num_beams=1").code == 0
    assert quickstart(workdir) == 0
    lines = capsys.readouterr().out.splitlines()
    examples = {
        side: [line.removeprefix(f"{side} ").strip() for line in lines if line.startswith(side)]
        for side in ("source", "translation", "reference")
    }
    assert [len(texts) for texts in examples.values()] == [10, 10, 10]
    for side, file in (
        ("source", corpus / "test.source"),
        ("reference", corpus / "test.target"),
        ("translation", workdir / "translations" / "test.txt"),
    ):
        texts = file.read_text(encoding="utf-8").splitlines()
        assert set(examples[side]) <= set(texts)
        assert examples[side][0] == texts[0].strip()
    for name in ("loss.png", "attention.png"):
        data = (workdir / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5000


def test_a_run_that_was_not_evaluated(trained, quickstart, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    shutil.rmtree(workdir / "translations", ignore_errors=True)
    assert quickstart(workdir) == 2
    assert capsys.readouterr().err == (
        f"quickstart: {workdir}/translations/test.txt is missing. Run `jaxformer evaluate "
        f"--workdir={workdir} --split=test`.\n"
    )
    assert not (workdir / "loss.png").exists()
