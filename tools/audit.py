"""Looks for known vulnerabilities and forbidden licences: `make audit`.

Vulnerabilities are those that PyPI's advisories name for the versions in constraints/pyXY.txt of
this Python, asked by pip-audit; where nobody answers, that is said, and is no failure. Licences are
those that the packages installed here state, in SPDX's terms or in older ones: tools that list them
cannot tell "MIT OR GPL-3.0-only" from "MIT AND GPL-3.0-only".
"""

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

PERMISSIVE = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python"),
    *("HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
}
# Its files stay under it, and what imports them need not be: allowed, and always listed.
NOTED = {"MPL-2.0"}

# How packages without an SPDX expression spell licences, in classifiers and in the field License.
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}

# Advisories that do not concern this project: id -> why.
HARMLESS: dict[str, str] = {}

_SECONDS_TO_ANSWER = 300
# The code of programs whose arguments are read by argparse.
_WRONG_ARGUMENTS = 2


def stated_licence(metadata: Mapping[str, Iterable[str]]) -> str:
    """Returns an SPDX expression as far as one can be made of what a package states, "" if it none.

    Args:
      metadata: of a package, field -> its values.
    """
    (expression, *_) = [*metadata.get("License-Expression", ()), ""]
    if expression:
        return expression
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in metadata.get("Classifier", ())
        if text.startswith("License :: ") and text != "License :: OSI Approved"
    ]
    if classifiers:
        return " AND ".join(SPELLINGS.get(text, text) for text in classifiers)
    # Some give the whole licence, whose first line is its name.
    (first, *_) = [*"\n".join(metadata.get("License", ())).strip().splitlines(), ""]
    return SPELLINGS.get(first.strip(), first.strip())


def is_allowed(expression: str, allowed: Collection[str]) -> bool:
    """Whether one may choose so that all licences to be obeyed are allowed.

    AND binds closer than OR, as SPDX has it; an exception to a licence permits more.
    """
    while inner := re.search(r"\(([^()]*)\)", expression):
        one = next(iter(allowed)) if is_allowed(inner[1], allowed) else "forbidden"
        expression = expression.replace(inner[0], one)
    return any(
        all(name.partition(" WITH ")[0].strip() in allowed for name in re.split(r"\bAND\b", choice))
        for choice in re.split(r"\bOR\b", expression)
    )


def check_licences() -> list[str]:
    """Returns the installed packages whose licence is not allowed; prints those that are noted."""
    forbidden, noted = [], []
    for each in distributions():
        # Read once: it is parsed anew each time.
        metadata = each.metadata
        fields = {name: metadata.get_all(name) or [] for name in set(metadata)}
        licence, name = stated_licence(fields), metadata["Name"]
        if is_allowed(licence, PERMISSIVE):
            continue
        if is_allowed(licence, PERMISSIVE | NOTED):
            noted.append(name)
        else:
            stated = licence or "no licence is stated"
            forbidden.append(f"{name} {metadata['Version']}: {stated}")
    listed = ", ".join(sorted(noted, key=str.lower))
    print(f"Licences: {', '.join(sorted(NOTED))} ({listed}); all others are permissive.")
    return sorted(forbidden, key=str.lower)


def check_vulnerabilities() -> list[str]:
    """Returns the advisories that concern the pinned versions; says so if nobody could be asked."""
    pins = ROOT / "constraints" / f"py{sys.version_info.major}{sys.version_info.minor}.txt"
    options = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", f"--requirement={pins}", *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS_TO_ANSWER,
        )
    except subprocess.TimeoutExpired:
        print(
            f"Vulnerabilities: no answer within {_SECONDS_TO_ANSWER} seconds, nothing is checked."
        )
        return []
    if done.returncode == _WRONG_ARGUMENTS:
        return [f"pip-audit does not take its arguments: {done.stderr.strip()}"]
    try:
        report = json.loads(done.stdout)
    except ValueError:
        (*_, why) = ["pip-audit is silent", *done.stderr.strip().splitlines()]
        print(
            f"Vulnerabilities: the advisories cannot be reached, nothing is checked ({why[:120]})."
        )
        return []
    # A mirror that knows no advisories answers that it does not know the package.
    asked = report["dependencies"]
    skipped = [package["name"] for package in asked if "skip_reason" in package]
    unknown = f"; not known there: {', '.join(skipped)}" if len(skipped) < len(asked) else ""
    print(
        f"Vulnerabilities: {len(asked) - len(skipped)} of the {len(asked)} packages of {pins.name} "
        f"are checked{unknown}."
    )
    return list(advisories(report))


def advisories(report: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each advisory in pip-audit's report that is not known to be harmless."""
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            if not HARMLESS.keys() & {found["id"], *found.get("aliases", ())}:
                mended = ", ".join(found["fix_versions"]) or "no version"
                yield f"{package['name']} {package['version']}: {found['id']}, mended in {mended}"


def main() -> int:
    """Checks both; returns the exit code."""
    faults = check_licences() + check_vulnerabilities()
    for fault in faults:
        print(f"audit: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
