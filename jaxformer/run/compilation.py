"""JAX's persistent compilation cache, so that a program is compiled once a machine."""

import hashlib
import os
import platform
from pathlib import Path

from jaxformer.io.environment import cpus

_LEAST_SECONDS = 0.1
"""Programs that compile faster are not worth a file."""


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/jaxformer/compilation`, or the same under `~/.cache`, and what a CPU is.

    A program for one CPU may not run on another, and a home folder may be shared by several. XLA
    cuts a CPU's program for so many threads as the process has cores, which its key in the cache
    does not say.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "jaxformer" / "compilation" / _cpu()


def enable_cache() -> Path | None:
    """Turns the cache on, unless $JAX_COMPILATION_CACHE_DIR has, or its folder cannot be made.

    Returns: the folder, None if there is none.
    """
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    folder = default_cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # Of one core; "flags" on x86, "Features" on Arm.
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}-{cpus()}"
