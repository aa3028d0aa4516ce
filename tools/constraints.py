"""Writes constraints/pyXY.txt for the Python that runs this: `make PYTHON=python3.13 constraints`.

pip resolves the package with all its extras in a clean environment, newest versions first, and
installs nothing. The file says nothing about the machine: versions lose their local part, and the
accelerators' own libraries, which jax and torch pin themselves, are left out.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "audit,dev,peers,quickstart,torch,wmt"
OF_A_MACHINE = re.compile(r"(nvidia|cuda|jax-cuda|triton|libtpu)\b")


def resolve() -> dict[str, str]:
    """Returns name -> version of all that an install would bring, this package left out."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder) / "report.json"
        command = [Path(folder) / "bin" / "python", "-m", "pip", "install", "--dry-run", "-qq"]
        options = ["--ignore-installed", "--report", report, f"{ROOT}[{EXTRAS}]"]
        subprocess.run([*command, *options], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    names = {item["metadata"]["name"]: item["metadata"]["version"] for item in found}
    return {name: version for name, version in names.items() if name != "jaxformer"}


def main() -> None:
    """Resolves, and writes the file."""
    major, minor = sys.version_info[:2]
    path = ROOT / "constraints" / f"py{major}{minor}.txt"
    pins = {
        re.sub(r"[-_.]+", "-", name).lower(): version.partition("+")[0]
        for name, version in resolve().items()
    }
    lines = [f"{name}=={pins[name]}\n" for name in sorted(pins) if not OF_A_MACHINE.match(name)]
    made_by = f"# Made by `make PYTHON=python{major}.{minor} constraints`.\n"
    path.write_text(made_by + "".join(lines), encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(lines)} packages")


if __name__ == "__main__":
    main()
