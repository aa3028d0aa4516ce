"""Whether one commit is slower than another: the training step and the decoder, by ratio.

    python experiments/benchmarks/regression.py A B

Both commits are checked out beside each other, without touching the working tree, and measured with
the benchmark of this checkout: process after process, A and B in turn. The exit code is 1 if B has
less than 1 - TOLERANCE of A's speed, or more than 1 + TOLERANCE times its memory, in the median of
the passes.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from experiments.benchmarks.sizes import SIZES, write_batches
from experiments.benchmarks.summary import ratios
from experiments.shared.processes import ROOT, allocators, run_alone

Figures = dict[str, list[float]]


def main() -> int:
    """Compares two commits; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("commits", nargs=2, metavar="COMMIT", help="A, the older, and B")
    parser.add_argument("--sizes", default="tiny,base", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--dtype", default="float32", help="model.dtype, float32 or bfloat16")
    parser.add_argument("--product_dtype", help="model.product_dtype, likewise")
    parser.add_argument("--passes", type=int, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timed steps a process")
    parser.add_argument("--allocator", default=list(allocators())[-1], help="of both")
    parser.add_argument("--tolerance", type=float, default=0.05, help="default 0.05")
    chosen = parser.parse_args()
    chosen.sizes = chosen.sizes.split(",")
    if chosen.allocator not in allocators():
        parser.error(f"--allocator={chosen.allocator}; choose from {', '.join(allocators())}")
    for name in chosen.sizes:
        if name not in SIZES:
            parser.error(f"--sizes has {name!r}; choose from {', '.join(SIZES)}")
    for commit in chosen.commits:
        if git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
            parser.error(f"{commit!r} is no commit here")
    return judge(compare(chosen), chosen.tolerance)


def compare(chosen: argparse.Namespace) -> dict[str, tuple[Figures, Figures]]:
    """Returns, for each measurement, the figures of A and of B."""
    found: dict[str, tuple[Figures, Figures]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        trees = [
            stack.enter_context(checkout(commit, folder / side))
            for commit, side in zip(chosen.commits, "AB", strict=True)
        ]
        for size in chosen.sizes:
            write_batches(folder / f"{size}.npy", SIZES[size])
        for number in range(chosen.passes):
            for job, arguments in jobs(chosen, folder).items():
                sides = found.setdefault(job, ({}, {}))
                for index in (0, 1) if number % 2 == 0 else (1, 0):
                    report = run_alone(
                        sys.executable,
                        "experiments.benchmarks.ours",
                        arguments,
                        allocator=allocators()[chosen.allocator],
                        # A cache for each: a program of one is none of the other's.
                        environment={
                            "XDG_CACHE_HOME": str(folder / f"cache{index}"),
                            "PYTHONPATH": str(trees[index]),
                        },
                        folder=trees[index],
                    )
                    for figure, value in report.items():
                        if figure.endswith(("_per_second", "peak_bytes")):
                            sides[index].setdefault(figure, []).append(value)
    return found


def jobs(chosen: argparse.Namespace, folder: Path) -> dict[str, Sequence[str]]:
    """Returns name -> arguments of what is measured."""
    options = [f"--seconds={chosen.seconds}", f"--dtype={chosen.dtype}"]
    if chosen.product_dtype:
        options.append(f"--product_dtype={chosen.product_dtype}")
    files = {size: f"--batches={folder / f'{size}.npy'}" for size in chosen.sizes}
    found = {
        f"train {size}": ["train", f"--size={size}", file, *options] for size, file in files.items()
    }
    size, file = next(iter(files.items()))
    return {**found, f"decode {size}": ["decode", f"--size={size}", file, *options]}


def judge(found: Mapping[str, tuple[Figures, Figures]], tolerance: float) -> int:
    """Prints B / A of every figure; returns 1 if one is worse than tolerated."""
    code = 0
    for job, (before, after) in found.items():
        for figure in before:
            ratio = ratios(after[figure], before[figure])
            gain = 1 / ratio["median"] if figure == "peak_bytes" else ratio["median"]
            is_worse = gain < 1 - tolerance
            code = 1 if is_worse else code
            print(
                f"{job}: {figure}: B / A {ratio['median']:.3f} "
                f"({ratio['least']:.3f} to {ratio['most']:.3f})" + ("  WORSE" if is_worse else "")
            )
    return code


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Generator[Path]:
    """Gives a checkout of a commit, with the benchmark of this one in it."""
    subprocess.run(
        ["git", "worktree", "add", "--quiet", "--detach", str(folder), commit],
        cwd=ROOT,
        check=True,
    )
    try:
        benchmarks = folder / "experiments" / "benchmarks"
        shutil.rmtree(benchmarks, ignore_errors=True)
        shutil.copytree(Path(__file__).parent, benchmarks)
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str | None:
    """Returns what git prints, None if it fails."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
