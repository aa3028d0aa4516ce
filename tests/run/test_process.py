"""What a process sets up before it computes: the compilation cache and the allocator."""

import ctypes
import errno
import os
import subprocess
import sys
from ctypes.util import find_library

import jax
import pytest

from jaxformer.run import allocator, compilation


@pytest.fixture
def cache_options():
    """Puts jax's options back."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache(tmp_path, cache_options, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    folder = compilation.enable_cache()
    assert folder.is_relative_to(tmp_path / "jaxformer" / "compilation")
    # A program is cut for so many threads as there are cores.
    with monkeypatch.context() as patch:
        patch.setattr(compilation, "cpus", lambda: 77)
        assert compilation.default_cache_dir() != folder
    script = (
        "from jaxformer.run.compilation import enable_cache; import jax, jax.numpy as jnp; "
        "enable_cache(); jax.config.update('jax_persistent_cache_min_compile_time_secs', 0); "
        "jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(jnp.ones((3, 3)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert any(path.stat().st_size for path in folder.iterdir())


def test_the_users_own_cache_is_respected(tmp_path, cache_options, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    before = jax.config.jax_compilation_cache_dir
    assert compilation.enable_cache() == tmp_path / "mine"
    assert jax.config.jax_compilation_cache_dir == before


def test_a_cache_that_cannot_be_made_is_done_without(tmp_path, cache_options, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert compilation.enable_cache() is None


# Large blocks of the first thread and of another, which has a heap of its own.
_BLOCKS = """
import resource, sys, threading
from jaxformer.run.allocator import keep_freed_memory
import numpy as np
if sys.argv[1] == "keep": print(keep_freed_memory())
def work(times):
    for _ in range(times): np.ones(2**24)
def both(times):
    work(times)
    thread = threading.Thread(target=work, args=(times,))
    thread.start()
    thread.join()
both(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
both(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how, **variables):
    """Returns what _BLOCKS prints; in a process of its own, since the setting cannot be undone."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKS, how],
        check=True,
        capture_output=True,
        text=True,
        env=environment | variables,
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="other allocators are left alone")
@pytest.mark.parametrize("name", ["glibc", "jemalloc"])
def test_freed_memory_is_kept(name):
    library = {"LD_PRELOAD": find_library(name)} if name == "jemalloc" else {}
    if None in library.values():
        pytest.skip("there is no jemalloc here")
    said, kept = _faults("keep", JAX_PLATFORMS="cpu", **library)
    if not said.startswith(name):
        pytest.skip(f"the allocator is {said}")
    assert said.endswith(", keeping freed memory")
    # What jemalloc does of itself depends on its version.
    at_once = {"MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0"} if library else {}
    (plain,) = _faults("leave", **library, **at_once)
    assert int(kept) < int(plain) / 10


@pytest.fixture
def plain_environment(monkeypatch):
    """Takes out what a user may have set."""
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


class _Jemalloc:
    """Stands for the library: three arenas, of which nobody has asked for the second yet."""

    def __init__(self, code=0):
        self.settings = {}

        def mallctl(name, old, old_size, new, new_size):
            if name == b"arenas.narenas":
                assert old_size._obj.value == ctypes.sizeof(old._obj)
                old._obj.value = 3
                return 0
            if code or name.startswith(b"arena.1."):
                return code or errno.EFAULT
            assert new_size == ctypes.sizeof(new._obj)
            self.settings[name.decode()] = new._obj.value
            return 0

        self.mallctl = mallctl


def test_jemalloc_is_told_of_all_its_arenas(plain_environment, monkeypatch):
    library = _Jemalloc()
    monkeypatch.setattr(allocator, "allocator", lambda: "jemalloc")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    assert allocator.keep_freed_memory() == "jemalloc, keeping freed memory"
    assert library.settings == {
        f"{arena}.{kind}_decay_ms": -1
        for arena in ("arenas", "arena.0", "arena.2")
        for kind in ("dirty", "muzzy")
    }
    # Before version 5 there was no such setting.
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: _Jemalloc(errno.ENOENT))
    assert allocator.keep_freed_memory() == "jemalloc"


@pytest.mark.parametrize("name", ["jemalloc", "glibc 2.36"])
def test_an_allocator_is_left_alone(name, plain_environment, monkeypatch):
    told = []

    def find(path):
        told.append(path)
        return object()

    monkeypatch.setattr(allocator, "allocator", lambda: name)
    monkeypatch.setattr(allocator.ctypes, "CDLL", find)
    # One that cannot be told.
    assert allocator.keep_freed_memory() == name
    assert told.pop() is None
    monkeypatch.setenv("MALLOC_CONF", "")
    assert allocator.keep_freed_memory() == f"{name}, as the environment says"
    monkeypatch.delenv("MALLOC_CONF")
    # Where something else computes.
    monkeypatch.setenv("JAX_PLATFORMS", "tpu,cpu")
    assert allocator.keep_freed_memory() == name
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(allocator.glob, "glob", lambda path: ["/dev/accel0"] * ("accel" in path))
    assert allocator.keep_freed_memory() == name
    monkeypatch.setattr(allocator, "allocator", lambda: "tcmalloc")
    assert allocator.keep_freed_memory() == "tcmalloc"
    assert told == []
    monkeypatch.setattr(allocator, "allocator", lambda: name)
    monkeypatch.setattr(allocator.glob, "glob", lambda path: [])
    assert allocator.keep_freed_memory() == name
    assert told == [None]


def test_parameters_are_counted_without_filled_up_rows():
    from jaxformer.model import Learned, Transformer, parameter_count
    from jaxformer.run.restoring import count_parameters

    sizes = {
        "vocab_size": 31, "d_model": 6, "d_ff": 7, "num_heads": 2, "d_k": 5, "d_v": 3,
        "num_encoder_layers": 2, "num_decoder_layers": 1,
    }  # fmt: skip
    model = Transformer(**sizes, vocab_multiple=16, positions=Learned, max_length=11)
    assert count_parameters(model) == parameter_count(**sizes, learned_positions=11)
