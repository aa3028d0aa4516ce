"""SECURITY.md keeps its word: nothing here makes code of data, or reaches the network unasked."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import imports_of, read_sources

ROOT = Path(__file__).resolve().parent.parent

# What turns data into code, or unpacks files under names of their own choice.
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "marshal.loads", "__import__"}
METHODS = {"extractall", "unpack_archive", "read_pickle"}
LOADERS = {"torch.load", "yaml.load"}
MODULES = {"tarfile", "zipfile", "marshal", "code", "pty"}

# Modules that reach the network, or code by its name, and the only files that may use them.
RESERVED = {
    "urllib.request": {"jaxformer/data/multi30k.py"},
    "urllib.error": {"jaxformer/data/multi30k.py"},
    # For the name of this machine, and between the processes of one run.
    "socket": {
        "jaxformer/io/lock.py",
        "jaxformer/io/hosts.py",
        "jaxformer/io/meeting.py",
        "jaxformer/io/relay.py",
    },
    "http": set(),
    "requests": set(),
    "ssl": set(),
    "ftplib": set(),
    "runpy": {"jaxformer/cli/config.py", "experiments/table2_translation.py", "configs"},
    "importlib.import_module": {
        "jaxformer/cli/build.py",
        "jaxformer/cli/main.py",
        "jaxformer/data/bible.py",
        "jaxformer/data/corpus.py",
        "jaxformer/data/wmt14.py",
    },
}


def faults_of(path: str, source: str) -> Iterator[str]:
    """Yields what a file does that may not be done, or not there."""
    for line, name in imports_of(path, source):
        if name.partition(".")[0] in MODULES:
            yield f"{path}:{line}: {name}"
        for reserved, allowed in RESERVED.items():
            if f"{name}.".startswith(f"{reserved}.") and not allowed & {path, path.split("/")[0]}:
                yield f"{path}:{line}: {name} is not for this file"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in CALLS or name.rpartition(".")[2] in METHODS:
            yield f"{path}:{node.lineno}: {name}"
        if name == "importlib.import_module" and path not in RESERVED[name]:
            yield f"{path}:{node.lineno}: {name} is not for this file"
        if name in LOADERS:
            yield f"{path}:{node.lineno}: {name}"
        if keywords.get("shell", "False") != "False":
            yield f"{path}:{node.lineno}: a shell"
        # NumPy does not, unless it is told to.
        if keywords.get("allow_pickle", "False") != "False":
            yield f"{path}:{node.lineno}: allow_pickle"


def test_nothing_turns_data_into_code():
    sources = read_sources() | {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in (ROOT / "tools").glob("*.py")
    }
    assert "tools/constraints.py" in sources
    assert [fault for path, source in sources.items() for fault in faults_of(path, source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "torch.load(path)",
        "numpy.load(path, allow_pickle=True)",
        "array.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "import tarfile",
        "def f():\n    from zipfile import ZipFile",
        "import urllib.request",
        "from urllib import request",
        "import http.client",
        "import runpy",
        "import importlib\nimportlib.import_module(name)",
    ],
)
def test_what_does_so_is_found(source):
    assert len(list(faults_of("jaxformer/io/record.py", source))) == 1


def test_what_may_be_done_is_not():
    sound = (
        "np.load(path, allow_pickle=False)\nre.compile(text)\nsubprocess.run(['ls'])\njax.jit(f)"
    )
    assert list(faults_of("jaxformer/io/record.py", sound)) == []


def test_a_module_of_the_current_folder_is_not_executed(tmp_path):
    for trap in ("json", "argparse", "difflib", "numpy"):
        (tmp_path / f"{trap}.py").write_text("raise SystemExit('a trap')", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "jaxformer", "trian"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = "jaxformer: Unknown command 'trian'. Did you mean 'train'?\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
