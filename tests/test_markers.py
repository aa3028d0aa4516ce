"""What `make test`, `make test-all` and `make test-torch` run, and what they say of the rest."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = """
import pytest

def test_plain(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.needs("absent")
def test_absent(): raise AssertionError("its need is absent")

@pytest.mark.needs("present")
def test_present(): pass

@pytest.mark.needs("of_dev")
def test_of_dev(): pass

def test_skipped(): pytest.skip("for a reason of its own")
"""

# Stands in for the real needs, of which a machine may have any.
NEEDS = """
NEEDS.clear()
NEEDS.update(absent=lambda: "there is none", present=lambda: None, of_dev=lambda: None)
OF_DEV = {"of_dev"}
"""


@pytest.fixture
def run(tmp_path):
    """Returns a function that runs the sample under our conftest: (exit code, output)."""
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    before, marker, after = conftest.partition("\n\ndef pytest_addoption")
    (tmp_path / "conftest.py").write_text(before + NEEDS + marker + after, encoding="utf-8")
    (tmp_path / "test_sample.py").write_text(SAMPLE, encoding="utf-8")
    shutil.copy(Path(__file__).parent.parent / "pyproject.toml", tmp_path / "pyproject.toml")

    def run_pytest(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", ".", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run_pytest


def test_special_tests_are_left_out(run):
    code, output = run()
    assert code == 0
    assert "2 passed, 1 skipped, 3 deselected" in output
    assert "test_plain PASSED" in output
    assert "test_of_dev PASSED" in output


def test_all_runs_what_can_be_run_and_lists_the_rest(run):
    code, output = run("--all")
    assert code == 0
    assert "4 passed, 2 skipped" in output
    missed = output.split("could not be run here")[1].splitlines()[1:3]
    assert missed == [
        "test_sample.py::test_absent: needs absent: there is none",
        "test_sample.py::test_skipped: for a reason of its own",
    ]


def test_a_need_can_be_asked_for(run):
    code, output = run("--needs=present")
    assert code == 0
    assert "1 passed, 5 deselected" in output
    assert "test_present PASSED" in output


def test_a_need_that_is_asked_for_must_be_there(run):
    code, output = run("--needs=absent")
    assert code == 4
    assert "there is none" in output


def test_an_unknown_need_is_an_error(run, tmp_path):
    sample = tmp_path / "test_sample.py"
    sample.write_text(sample.read_text(encoding="utf-8").replace("present", "pressent"), "utf-8")
    code, output = run()
    assert code == 4
    assert "pressent" in output
