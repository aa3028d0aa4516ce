"""Imports point one way, and some packages are kept out (README, "The tree").

The arrow: cli -> {run, study} -> {io, data} -> {train, decode, sharding, population} ->
{loss, optim, moses, files, trees} -> model.
Every import statement counts, within functions and under TYPE_CHECKING too.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LEVELS = (
    {"model"},
    {"loss", "optim", "moses", "files", "trees"},
    {"train", "decode", "sharding", "population"},
    {"io", "data"},
    {"run", "study"},
    {"cli"},
    {"__main__"},
)
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}

# Parts that may import nothing from outside but this and the standard library.
ONLY = {"model": {"jax", "flax"}, "": set()}

# Packages with the only parts that may import them.
RESERVED = {"absl": {"cli"}, "ml_collections": {"cli"}}

# Neither TensorFlow nor anything that runs code when a file is read.
BANNED = {"tensorflow", "pickle", "cloudpickle", "dill", "joblib", "shelve"}


def imports_of(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of all that a file imports; `from a import b` gives "a.b"."""
    package = list(Path(path).parent.parts)
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            argument = node.args[0]
            if name in {"import_module", "__import__"} and isinstance(argument, ast.Constant):
                yield node.lineno, str(argument.value)


def part_of(path: str) -> str:
    """Returns "model" for jaxformer/model/masks.py, "loss" for jaxformer/loss.py, "" at the top."""
    first = Path(path).with_suffix("").parts[1]
    return "" if first == "__init__" else first


def fault_of(part: str, name: str, parts: set[str]) -> str | None:
    """Returns what is wrong with `part` of jaxformer importing `name`, or None."""
    top, _, rest = name.partition(".")
    if top in BANNED:
        return f"{top} is not used anywhere"
    if top != "jaxformer":
        if part in ONLY and top not in ONLY[part] | sys.stdlib_module_names:
            return f"jaxformer.{part} imports {top}".replace("jaxformer. ", "jaxformer itself ")
        if part not in RESERVED.get(top, {part}):
            return f"only {sorted(RESERVED[top])} may import {top}"
        return None
    other = rest.partition(".")[0]
    if other == part or other not in parts:
        return None
    if part == "":
        return "jaxformer itself imports no part, or every part would import every other"
    if part not in LEVEL_OF or other not in LEVEL_OF:
        return f"{part if part not in LEVEL_OF else other} has no level in {Path(__file__).name}"
    if LEVEL_OF[other] > LEVEL_OF[part]:
        return f"an upward arrow, {part} -> {other}"
    if LEVEL_OF[other] == LEVEL_OF[part]:
        return f"an arrow between siblings, {part} -> {other}"
    return None


def faults(sources: Mapping[str, str]) -> list[str]:
    """Returns one line for each import that is against the rules; sources: path -> text."""
    parts = {part_of(path) for path in sources if path.startswith("jaxformer/")}
    found = []
    for path, source in sources.items():
        inside = path.startswith("jaxformer/")
        for line, name in imports_of(path, source):
            if inside:
                fault = fault_of(part_of(path), name, parts)
            else:
                fault = name.partition(".")[0] in BANNED and "this package is not used anywhere"
            if fault:
                found.append(f"{path}:{line}: {name}: {fault}")
    return found


def read_sources() -> dict[str, str]:
    """Returns path -> text of the package, the configs and the experiments."""
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in ("jaxformer", "configs", "experiments")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_imports_point_one_way():
    sources = read_sources()
    assert "jaxformer/model/transformer.py" in sources
    assert faults(sources) == []


def test_every_part_has_a_level():
    parts = {part_of(path) for path in read_sources() if path.startswith("jaxformer/")}
    assert parts - {""} <= set(LEVEL_OF)


# A tree that is in order: every bad sample is put into it.
SOUND = {
    "jaxformer/__init__.py": '"""The package."""\nfrom importlib.metadata import version\n',
    "jaxformer/__main__.py": "from jaxformer.cli.main import main\n",
    "jaxformer/model/__init__.py": "from jaxformer.model.masks import Mask\n",
    "jaxformer/model/masks.py": "import math\nimport flax.linen as nn\nfrom . import tokens\n",
    "jaxformer/loss.py": "from jaxformer.model.tokens import PAD\n",
    "jaxformer/optim.py": "import optax\n",
    "jaxformer/train.py": "from jaxformer import loss, optim\nfrom .model import masks\n",
    "jaxformer/decode.py": "from jaxformer.model import tokens\n",
    "jaxformer/data/corpus.py": "import tensorflow_datasets as tfds\nfrom ..model import tokens\n",
    "jaxformer/io/record.py": "from jaxformer import __version__\n",
    "jaxformer/run/loop.py": "from jaxformer.data.corpus import Corpus\nimport jaxformer.train\n",
    "jaxformer/cli/main.py": "from absl import flags\nfrom jaxformer.run import loop\n",
    "configs/base.py": "import ml_collections\n",
}

BAD = {
    "up": ("jaxformer/train.py", "from jaxformer.data import corpus", "train -> data"),
    "up by the top": ("jaxformer/loss.py", "from jaxformer import train", "loss -> train"),
    "up, plainly": ("jaxformer/loss.py", "import jaxformer.run.loop", "loss -> run"),
    "up, relative": ("jaxformer/data/corpus.py", "from ..run import loop", "data -> run"),
    "up, in a function": (
        "jaxformer/model/masks.py",
        "def f():\n    from jaxformer.loss import g\n    return g",
        "model -> loss",
    ),
    "up, for types only": (
        "jaxformer/train.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jaxformer.cli.main",
        "train -> cli",
    ),
    "up, by name": (
        "jaxformer/io/record.py",
        "import importlib\nimportlib.import_module('jaxformer.run.loop')",
        "io -> run",
    ),
    "sibling": ("jaxformer/data/corpus.py", "from jaxformer.io import record", "data -> io"),
    "sibling, below": ("jaxformer/decode.py", "from jaxformer.train import f", "decode -> train"),
    "the top": ("jaxformer/__init__.py", "from jaxformer.model import masks", "imports no part"),
    "model and numpy": ("jaxformer/model/masks.py", "import numpy as np", "imports numpy"),
    "model and optax": ("jaxformer/model/masks.py", "from optax import adam", "imports optax"),
    "the top and jax": ("jaxformer/__init__.py", "import jax", "jaxformer itself imports jax"),
    "absl": ("jaxformer/run/loop.py", "from absl import logging", "may import absl"),
    "ml_collections": ("jaxformer/train.py", "import ml_collections", "may import ml_collections"),
    "tensorflow": ("jaxformer/data/corpus.py", "def f():\n    import tensorflow as tf", "not used"),
    "pickle": ("configs/base.py", "from pickle import loads", "not used"),
    "no level": ("jaxformer/train.py", "from jaxformer import misc", "misc has no level"),
}


def test_a_sound_sample_has_no_faults():
    assert faults(SOUND) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sample_has_one_fault(name):
    path, lines, message = BAD[name]
    sample = {**SOUND, path: f"{SOUND[path]}{lines}\n"}
    if "misc" in lines:
        sample["jaxformer/misc.py"] = ""
    found = faults(sample)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert message in found[0]
