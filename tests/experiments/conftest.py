"""What tests of the scripts share."""

import sys

import pytest


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Runs a script's main with these words: (exit code, output, errors)."""

    def run(script, *argv):
        name = script.__name__.rpartition(".")[2]
        monkeypatch.setattr(sys, "argv", [name, *map(str, argv)])
        code = script.main()
        return code, *capsys.readouterr()

    return run
