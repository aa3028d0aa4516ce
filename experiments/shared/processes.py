"""Running measured processes: each alone, its allocator chosen from outside, alike on all sides."""

import ctypes.util
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

# What jaxformer.run.allocator sets in glibc's and in jemalloc, as the environment says it.
KEEP_FREED = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
KEEP_FREED_JEMALLOC = {"MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}
# What of the user's would decide for one side only, or keep programs from one run to the next.
_OF_THE_USER = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_", "JAX_COMPILATION_", "JAX_PERSISTENT_")


def allocators() -> dict[str, dict[str, str]]:
    """Returns the allocators there are, by name, and the environment that chooses each.

    glibc: as it is. kept: told to keep freed memory, as jaxformer tells it. jemalloc and
    jemalloc_kept: the same of jemalloc, where it is found. The last is what a measurement is made
    with that names none.
    """
    found = {"glibc": {}, "kept": KEEP_FREED}
    library = ctypes.util.find_library("jemalloc")
    if not library:
        return found
    plain = {"LD_PRELOAD": library}
    return {**found, "jemalloc": plain, "jemalloc_kept": plain | KEEP_FREED_JEMALLOC}


def run_alone(
    python: str,
    module: str,
    arguments: Sequence[str],
    *,
    allocator: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> dict[str, Any]:
    """Runs a module as a process and returns what it reports.

    Args:
      python: the interpreter.
      module: by its full name.
      arguments: besides `--started`, which is added where a process asks for it by `--seconds`.
      allocator: of `allocators`.
      environment: other variables.
      folder: the checkout that it runs in, and whose jaxformer it imports.

    Raises: RuntimeError if it fails, with its last words.
    """
    command = [python, "-m", module, *arguments]
    if any(argument.startswith("--seconds=") for argument in arguments):
        command.append(f"--started={time.time()}")
    done = subprocess.run(
        command,
        cwd=folder,
        env={**clean_environment(), **allocator, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        words = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}:\n{words}")
    return json.loads(lines[-1])


def clean_environment() -> dict[str, str]:
    """Returns this process's environment without what chooses an allocator or a cache."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_USER)}
