"""What a process sets up before it computes: the compilation cache and the allocator."""

import os
import subprocess
import sys

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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is meant")
def test_glibc_keeps_freed_memory():
    # In a process of its own, since the setting cannot be undone.
    script = (
        "import resource, sys; from jaxformer.run.allocator import keep_freed_memory\n"
        "import numpy as np\n"
        "if sys.argv[1] == 'keep': print(keep_freed_memory())\n"
        "for _ in range(3): np.ones(2**23)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): np.ones(2**23)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name not in ("GLIBC_TUNABLES", "LD_PRELOAD")
    }

    def faults(how):
        done = subprocess.run(
            [sys.executable, "-c", script, how],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        )
        return done.stdout.splitlines()

    said, kept = faults("keep")
    (plain,) = faults("leave")
    if not said.startswith("glibc"):
        pytest.skip(f"the allocator is {said}")
    assert said.endswith(", keeping freed memory")
    assert int(kept) < int(plain) / 10


def test_other_allocators_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "allocator", lambda: "jemalloc")
    assert allocator.keep_freed_memory() == "jemalloc"
    monkeypatch.setattr(allocator, "allocator", lambda: "glibc 2.36")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert allocator.keep_freed_memory() == "glibc 2.36"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert allocator.keep_freed_memory() == "glibc 2.36, as the environment says"


def test_parameters_are_counted_without_filled_up_rows():
    from jaxformer.model import Learned, Transformer, parameter_count
    from jaxformer.run.restoring import count_parameters

    sizes = {
        "vocab_size": 31, "d_model": 6, "d_ff": 7, "num_heads": 2, "d_k": 5, "d_v": 3,
        "num_encoder_layers": 2, "num_decoder_layers": 1,
    }  # fmt: skip
    model = Transformer(**sizes, vocab_multiple=16, positions=Learned, max_length=11)
    assert count_parameters(model) == parameter_count(**sizes, learned_positions=11)
