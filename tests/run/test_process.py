"""What a process sets up before it computes: the compilation cache and the allocator."""

import ctypes
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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is meant")
def test_glibc_keeps_freed_memory():
    said, kept = _faults("keep")
    (plain,) = _faults("leave")
    if not said.startswith("glibc"):
        pytest.skip(f"the allocator is {said}")
    assert said.endswith(", keeping freed memory")
    assert int(kept) < int(plain) / 10


@pytest.mark.skipif(not find_library("jemalloc"), reason="there is no jemalloc here")
def test_jemalloc_keeps_freed_memory():
    library = {"LD_PRELOAD": find_library("jemalloc")}
    said, kept = _faults("keep", **library)
    (plain,) = _faults("leave", **library)
    assert said == "jemalloc, keeping freed memory"
    assert int(kept) < int(plain) / 10
    assert _faults("keep", MALLOC_CONF="dirty_decay_ms:0", **library)[0] == (
        "jemalloc, as the environment says"
    )


class _Jemalloc:
    """Stands for the library: three arenas, of which the second does not exist yet."""

    def __init__(self, knows_decay=True):
        self.settings = {}

        def mallctl(name, old, old_size, new, new_size):
            if name == b"arenas.narenas":
                assert old_size._obj.value == ctypes.sizeof(old._obj)
                old._obj.value = 3
                return 0
            if name.startswith(b"arena.1.") or not knows_decay:
                return 14
            assert new_size == ctypes.sizeof(new._obj)
            self.settings[name.decode()] = new._obj.value
            return 0

        self.mallctl = mallctl


def test_jemalloc_is_told_of_all_its_arenas(monkeypatch):
    library = _Jemalloc()
    monkeypatch.setattr(allocator, "allocator", lambda: "jemalloc")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    monkeypatch.delenv("MALLOC_CONF", raising=False)
    assert allocator.keep_freed_memory() == "jemalloc, keeping freed memory"
    assert library.settings == {
        f"{arena}.{kind}_decay_ms": -1
        for arena in ("arenas", "arena.0", "arena.2")
        for kind in ("dirty", "muzzy")
    }
    # Before version 5 there was no such setting.
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: _Jemalloc(knows_decay=False))
    assert allocator.keep_freed_memory() == "jemalloc"


def test_what_cannot_be_told_is_left_alone(monkeypatch):
    for name in ("jemalloc", "glibc 2.36"):
        monkeypatch.setattr(allocator, "allocator", lambda name=name: name)
        monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
        for variable in ("GLIBC_TUNABLES", "MALLOC_CONF"):
            monkeypatch.delenv(variable, raising=False)
        assert allocator.keep_freed_memory() == name
        monkeypatch.setenv("MALLOC_CONF", "")
        assert allocator.keep_freed_memory() == f"{name}, as the environment says"
    monkeypatch.setattr(allocator, "allocator", lambda: "tcmalloc")
    assert allocator.keep_freed_memory() == "tcmalloc"


def test_parameters_are_counted_without_filled_up_rows():
    from jaxformer.model import Learned, Transformer, parameter_count
    from jaxformer.run.restoring import count_parameters

    sizes = {
        "vocab_size": 31, "d_model": 6, "d_ff": 7, "num_heads": 2, "d_k": 5, "d_v": 3,
        "num_encoder_layers": 2, "num_decoder_layers": 1,
    }  # fmt: skip
    model = Transformer(**sizes, vocab_multiple=16, positions=Learned, max_length=11)
    assert count_parameters(model) == parameter_count(**sizes, learned_positions=11)
