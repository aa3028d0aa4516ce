"""Whether the tricks of the training step cost BLEU: trainings with and without, on real text.

    python -m experiments.equal_bleu --workdir=runs/equal_bleu [--seeds=2] [--jobs=2]
    jaxformer report runs/equal_bleu

trains Table 3's base at a laptop's scale as the study trains it, `base` here, and beside it with
all of its arithmetic in float32 (`plain_products`) and with dropout by `jax.random` (`threefry`, a
form of `experiments.benchmarks.plain_forms`); each is scored on the validation split. What was
stopped goes on. The folder is that of a sweep, so that the report tests each against base; but go
on with this script only: settings do not know of `threefry`, and `jaxformer sweep` would go on
without it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from jaxformer.cli.mistakes import Mistake, answered
from jaxformer.cli.options import whole_number
from jaxformer.cli.rows import rows_of_product
from jaxformer.cli.sweep import extended
from jaxformer.cli.workdir import open_workdir
from jaxformer.files import in_bucket
from jaxformer.study.local import PROGRAM, Outcome, run_local
from jaxformer.study.manifest import BASE, Manifest, Member, Row, expand, write_manifest

GROUP = "equal_bleu"
THREEFRY = "threefry"
_SPEC = "configs/table3/base.py:laptop/base"
_BFLOAT16 = ("model.product_dtype", "bfloat16")
CHANGES = {BASE: [_BFLOAT16], "plain_products": [], THREEFRY: [_BFLOAT16]}
"""Row -> changes of the config's settings."""
_WITH_THREEFRY = (sys.executable, "-m", "experiments.benchmarks.plain_forms", "threefry_dropout")
PROGRAMS = dict.fromkeys(CHANGES, PROGRAM) | {THREEFRY: (*_WITH_THREEFRY, "jaxformer")}
"""Row -> what stands for `jaxformer` in its command lines."""


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="equal_bleu", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--workdir", required=True, help="folder of the sweep")
    parser.add_argument("--seeds", type=whole_number, default=1, help="seeds 0 to N-1 (default 1)")
    parser.add_argument("--jobs", type=whole_number, default=1, help="at a time (default 1)")
    chosen = parser.parse_args()

    def work() -> None:
        members = make_members(chosen.workdir, chosen.seeds)
        write(chosen.workdir, members)
        failures = [
            f"{outcome.member.id}: {outcome.failure.rstrip('.')}"
            for program in dict.fromkeys(PROGRAMS.values())
            for outcome in run_local(
                [member for member in members if PROGRAMS[member.row] == program],
                chosen.workdir,
                _Watch(),
                jobs=chosen.jobs,
                program=program,
            )
            if outcome.failure
        ]
        if failures:
            raise Mistake(f"{'; '.join(failures)}. The same command tries again what has failed.")

    return answered("equal_bleu", work)


def make_members(folder: str, seeds: int) -> Sequence[Member]:
    """Returns the trainings: every row with every seed."""
    return expand([_row(label) for label in CHANGES], range(seeds), folder)


def write(folder: str, members: Sequence[Member]) -> None:
    """Writes the manifest of these members and of those that the folder has already.

    Raises: Mistake or ValueError if it is the folder of something else or in a bucket, or a member
      was trained with other settings.
    """
    place = open_workdir(folder)
    if in_bucket(place):
        raise Mistake(f"{place} lies in a bucket, where members' logs cannot grow. Give another.")
    manifest = extended(place, Manifest("laptop", members))
    if others := {member.group for member in manifest.members} - {GROUP}:
        raise Mistake(f"{place} is the folder of a sweep of {', '.join(others)}. Give another.")
    write_manifest(place, manifest)


def _row(label: str) -> Row:
    (row,), _ = rows_of_product(_SPEC, [], CHANGES[label])
    return replace(row, group=GROUP, label=label, overrides=dict(CHANGES[label]))


class _Watch:
    """Says a line for each start and end."""

    def started(self, member: Member) -> None:
        print(f"{member.id}: started", flush=True)

    def ended(self, outcome: Outcome) -> None:
        print(f"{outcome.member.id}: {outcome.failure or 'finished'}", flush=True)

    def tick(self, running: Sequence[Member]) -> None:
        """Says nothing."""


if __name__ == "__main__":
    sys.exit(main())
