"""The house: what holds for every file, for the pins, for the wheel and for the Makefile."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_imports import imports_of

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 400
VAGUE_NAMES = {"common", "helpers", "misc", "util", "utils"}
OURS = {"experiments", "jaxformer"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", python_files("jaxformer", "configs", "experiments", "tests", "tools"), ids=name_of
)
def test_a_file_has_one_subject(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    assert path.stem not in VAGUE_NAMES


def undocumented(source: str) -> Iterator[str]:
    """Yields what is public in a module and lacks a docstring, or an annotation of an argument."""
    module = ast.parse(source)
    if not ast.get_docstring(module):
        yield "the module has no docstring"
    scopes: list[tuple[ast.Module | ast.ClassDef, str]] = [(module, "")]
    while scopes:
        scope, prefix = scopes.pop()
        for node in scope.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            is_magic = node.name.startswith("__") and node.name.endswith("__")
            if node.name.startswith("_") and not is_magic:
                continue
            name = f"{prefix}{node.name}"
            if not is_magic and not ast.get_docstring(node):
                yield f"{name} has no docstring"
            if isinstance(node, ast.ClassDef):
                scopes.append((node, f"{name}."))
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = {argument.arg for argument in arguments if argument.annotation is None}
            for argument in sorted(bare - {"self", "cls"}):
                yield f"{name}: {argument} has no annotation"
            if node.returns is None:
                yield f"{name}: what it returns has no annotation"


@pytest.mark.parametrize("path", python_files("jaxformer", "configs", "experiments"), ids=name_of)
def test_what_is_public_is_documented(path):
    assert list(undocumented(path.read_text(encoding="utf-8"))) == []


def test_what_is_undocumented_is_found():
    source = '''
class Good:
    """Is good."""

    def method(self, a: int) -> int:
        """Returns a."""

        def inner(x):
            return x

        return inner(a)

class Bad:
    def method(self, b):
        """Returns b."""

    def _private(self, c): ...
'''
    assert list(undocumented(source)) == [
        "the module has no docstring",
        "Bad has no docstring",
        "Bad.method: b has no annotation",
        "Bad.method: what it returns has no annotation",
    ]


def requirements() -> list[Requirement]:
    """Returns all direct requirements, but for the accelerators' builds of jax."""
    extras = PROJECT["optional-dependencies"]
    lines = [
        *PROJECT["dependencies"],
        *(line for name, extra in extras.items() if name not in {"tpu", "gpu"} for line in extra),
    ]
    found = [Requirement(line) for line in lines]
    # An extra may bring another one.
    return [requirement for requirement in found if requirement.name != "jaxformer"]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_constraints_pin_every_requirement(python):
    path = ROOT / "constraints" / f"py{python.replace('.', '')}.txt"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    odd = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)]
    assert odd == []
    pins = dict(line.split("==") for line in lines)
    for requirement in requirements():
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        name = canonicalize_name(requirement.name)
        assert name in pins
        assert requirement.specifier.contains(pins[name]), f"{requirement}, but {pins[name]}"


def test_what_is_imported_is_declared():
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    distributions = packages_distributions()
    undeclared = {
        f"{name_of(path)}: {top}"
        for path in python_files("jaxformer", "configs", "experiments")
        for _, name in imports_of(name_of(path), path.read_text(encoding="utf-8"))
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names | OURS
        # What is not installed, such as the benchmark's peers, goes by its own name.
        if not declared & {canonicalize_name(known) for known in distributions.get(top, [top])}
    }
    assert undeclared == set()


def test_the_wheel_holds_the_package_only(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "jaxformer/model/transformer.py" in names
    allowed = ("jaxformer/", f"jaxformer-{PROJECT['version']}.dist-info/")
    assert [name for name in names if not name.startswith(allowed)] == []
    # What is no Python: the mark of types, and the parts of the page of attention.
    others = [name for name in names if not name.endswith(".py") and "dist-info" not in name]
    assert sorted(others) == [
        *(f"jaxformer/io/attention_page.{kind}" for kind in ("css", "html", "js")),
        "jaxformer/py.typed",
    ]


def fake_python(folder: Path, version: tuple[int, int, int]) -> Path:
    """Writes a `python` that believes itself to be of another version."""
    path = folder / "python"
    pretend = f"import sys; sys.version_info = {version}; exec(sys.argv[2])"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}" "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("kind", ["too old", "absent"])
def test_make_names_the_python_it_needs_in_one_line(tmp_path, kind):
    if kind == "too old":
        python, found = fake_python(tmp_path, (3, 10, 4)), "is Python 3.10.4"
    else:
        python, found = tmp_path / "no-such-python", "does not start"
    folder = tmp_path / "venv"
    run = subprocess.run(
        [ROOT / "tools" / "venv.sh", python, folder, "dev"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert found in run.stderr
    assert "3.11 or newer" in run.stderr
    assert not folder.exists()
