"""What a run runs on: versions, the code's commit, devices, the memory allocator."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Collection
from importlib import metadata
from typing import Any

import jax

PACKAGES = (
    "jaxformer",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "sentencepiece",
    "sacrebleu",
    "numpy",
)


def versions(packages: Collection[str] = PACKAGES) -> dict[str, str | None]:
    """Python's version and those of `packages`, None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def devices() -> dict[str, Any]:
    """Platform and kind of the devices, their number over all processes, and that of processes."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "count": jax.device_count(),
        "processes": jax.process_count(),
        "cpus": cpus(),
    }


def cpus() -> int:
    """The processor cores that this process may run on, on which its number of threads depends.

    All of the machine where the system does not say.
    """
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def allocator() -> str:
    """The allocator of this process, which training speed on CPUs depends on: its library's name.

    "jemalloc", "tcmalloc" or "mimalloc" where one is loaded, otherwise the C library with its
    version, or "unknown" where neither can be told.
    """
    try:
        loaded = pathlib.Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        loaded = ""
    for name in ("jemalloc", "tcmalloc", "mimalloc"):
        if any(f"lib{name}" in os.path.basename(line) for line in loaded.splitlines()):
            return name
    return " ".join(platform.libc_ver()).strip() or "unknown"


def package_source() -> dict[str, Any] | None:
    """`repository` of the checkout this package is run from; None for an installed copy."""
    source = pathlib.Path(__file__)
    # A copy in a virtual environment often lies within somebody else's repository, untracked.
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return None
    return repository(source.parent)


def repository(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The git repository that `folder` lies in, None if in none or if git cannot be asked.

    Returns: {"commit": the full hash, None before the first commit; "dirty": whether tracked files
      differ from it}. Untracked files do not count: a run's own output would be among them.
    """
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if changes is None:
        return None
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    return {"commit": commit and commit.strip(), "dirty": bool(changes.strip())}


def _git(folder: str | os.PathLike[str], *args: str) -> str | None:
    # Inside a git hook GIT_DIR and its kin name the hook's repository, not the folder's.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    variables["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ["git", *args],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
