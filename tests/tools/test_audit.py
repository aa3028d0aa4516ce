"""The audit of dependencies: which licences pass, and which answers of pip-audit are a failure."""

import json
import subprocess
from email.message import Message
from types import SimpleNamespace

import pytest

from tools import audit


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"License-Expression": ["MIT OR X"], "License": ["Y"]}, "MIT OR X"),
        ({"Classifier": ["License :: OSI Approved :: BSD License"]}, "BSD-3-Clause"),
        (
            {
                "Classifier": [
                    "License :: OSI Approved",
                    "License :: OSI Approved :: MIT License",
                    "License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
                ]
            },
            "MIT AND GNU General Public License v3 (GPLv3)",
        ),
        ({"License": ["\n      Apache License\n   Version 2.0\n"], "Classifier": []}, "Apache-2.0"),
        ({"License": ["GPL-3.0"]}, "GPL-3.0"),
        ({"License": [""]}, ""),
        ({}, ""),
    ],
)
def test_what_a_package_states(metadata, licence):
    assert audit.stated_licence(metadata) == licence


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND (GPL-3.0-only OR BSD-2-Clause)", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR LGPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR (MIT AND AGPL-3.0-only))", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("MPL-2.0", False),
        ("mit", False),
        ("", False),
    ],
)
def test_licences_that_pass(expression, is_allowed):
    assert audit.is_allowed(expression, audit.PERMISSIVE) == is_allowed


def test_a_forbidden_licence_fails_and_a_noted_one_is_listed(monkeypatch, capsys):
    def package(name, licence):
        message = Message()
        for field, value in (("Name", name), ("Version", "1.0"), ("License-Expression", licence)):
            message[field] = value
        return SimpleNamespace(metadata=message)

    packages = [package("b", "AGPL-3.0-only"), package("A", "MPL-2.0"), package("c", "MIT")]
    monkeypatch.setattr(audit, "distributions", lambda: packages)
    assert audit.check_licences() == ["b 1.0: AGPL-3.0-only"]
    assert capsys.readouterr().out == "Licences: MPL-2.0 (A); all others are permissive.\n"


def test_what_is_installed_here_passes(capsys):
    assert audit.check_licences() == []


def answer(monkeypatch, code=0, out="", err=""):
    done = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)


REPORT = {
    "dependencies": [
        {"name": "good", "version": "1", "vulns": []},
        {"name": "unknown", "skip_reason": "not on PyPI"},
        {
            "name": "bad",
            "version": "2",
            "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}],
        },
    ],
    "fixes": [],
}


def test_an_advisory_fails_unless_it_is_known_to_be_harmless(monkeypatch, capsys):
    answer(monkeypatch, 1, json.dumps(REPORT))
    assert audit.check_vulnerabilities() == ["bad 2: PYSEC-1, mended in 2.1"]
    monkeypatch.setattr(audit, "HARMLESS", {"CVE-1": "is not used"})
    assert audit.check_vulnerabilities() == []
    assert capsys.readouterr().out.endswith("are checked; not known there: unknown.\n")


def test_a_mirror_without_advisories_is_not_taken_for_an_all_clear(monkeypatch, capsys):
    skipped = [{"name": name, "skip_reason": "not on PyPI"} for name in "ab"]
    answer(monkeypatch, 0, json.dumps({"dependencies": skipped}))
    assert audit.check_vulnerabilities() == []
    assert "0 of the 2 packages" in capsys.readouterr().out


def test_where_nobody_answers_that_is_said_and_is_no_failure(monkeypatch, capsys):
    answer(monkeypatch, 1, "", "ERROR:Could not connect\nERROR:Tip: the network\n")
    assert audit.check_vulnerabilities() == []
    assert capsys.readouterr().out == (
        "Vulnerabilities: the advisories cannot be reached, nothing is checked (ERROR:Tip: the "
        "network).\n"
    )

    def wait(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", wait)
    assert audit.check_vulnerabilities() == []
    assert "no answer within" in capsys.readouterr().out


def test_arguments_that_pip_audit_does_not_know_are_a_failure(monkeypatch):
    answer(monkeypatch, 2, "", "usage: pip-audit\nerror: no --disable-pip\n")
    (fault,) = audit.check_vulnerabilities()
    assert "no --disable-pip" in fault


@pytest.mark.parametrize(("faults", "code"), [([], 0), (["x 1: GPL"], 1)])
def test_faults_decide_the_exit_code(monkeypatch, capsys, faults, code):
    monkeypatch.setattr(audit, "check_licences", lambda: faults)
    monkeypatch.setattr(audit, "check_vulnerabilities", list)
    assert audit.main() == code
    assert capsys.readouterr().err == "".join(f"audit: {fault}\n" for fault in faults)
