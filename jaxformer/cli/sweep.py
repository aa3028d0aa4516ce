"""`jaxformer sweep`: many trainings that belong together, from config files with rows.

It expands rows and seeds into a manifest (jaxformer/study/manifest.py) and runs its members here
(jaxformer/study/local.py), or writes what runs them elsewhere (jaxformer/study/launch.py).
"""

import argparse
import fnmatch
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.launch import (
    add_launch_options,
    check_launch,
    is_elsewhere,
    launch,
    launch_folder,
)
from jaxformer.cli.mistakes import Mistake, file_mistakes, mistakes
from jaxformer.cli.options import Options, whole_number
from jaxformer.cli.rows import check_models, read_axis, rows_of_files, rows_of_product
from jaxformer.cli.sent import check_data_is_sent
from jaxformer.cli.workdir import open_workdir
from jaxformer.files import in_bucket
from jaxformer.run.progress import Progress, duration
from jaxformer.study.grouping import group
from jaxformer.study.launch import member_jobs
from jaxformer.study.local import Outcome, run_local
from jaxformer.study.manifest import (
    Manifest,
    Member,
    Row,
    expand,
    extend,
    read_manifest,
    write_manifest,
)
from jaxformer.study.slices import find_slice
from jaxformer.study.standing import Forecast, last_step, read_scores

# What the result does not depend on, unless it has no result otherwise.
_MAY_CHANGE = (
    "data.data_dir",
    "data.manual_dir",
    "train.not_finite",
    "model.remat",
    "model.scan_layers",
    "parallel.*",
)

_EPILOG = """\
Every row of the config files is trained with every seed and scored on the validation split, each in
a workdir of its own: WORKDIR/GROUP/ROW/seed=N. WORKDIR/manifest.json lists them. The same command
goes on where it was stopped; with more seeds or files it adds to the sweep. Without config files
that have ROWS, rows are made of values: --config=configs/quickstart.py
--sweep model.num_heads=1,2,4 --sweep train.seed=0,1,2. docs/sweeps.md says more.
"""


def run(argv: Sequence[str]) -> int:
    """Sweeps; returns the exit code: 1 if a member has failed."""
    spec, assignments, rest = config_lib.split_arguments(argv)
    options = Options(
        "sweep", "Trains and scores the rows of a table, with several seeds.", _EPILOG
    )
    options.add_argument("files", metavar="FILE", nargs="*", help="config files with ROWS")
    options.add_argument("--scale", help="which settings of each row (paper or laptop, of Table 3)")
    options.add_argument(
        "--seeds", type=whole_number, metavar="N", help="seeds 0 to N-1 (default: 1)"
    )
    options.add_argument("--workdir", help="folder of the sweep")
    options.add_argument(
        "--protocol", default="", help="score by this protocol of `evaluate` as well"
    )
    options.add_argument(
        "--jobs", type=whole_number, default=1, metavar="N", help="members at a time (default: 1)"
    )
    options.add_argument(
        "--population",
        type=whole_number,
        nargs="?",
        const=8,
        metavar="N",
        help="train up to N members that may share a program in one (default: 8), then score each",
    )
    options.add_argument(
        "--only", metavar="GLOB", help="run those members only, such as 'a_heads/*/seed=0'"
    )
    options.add_argument(
        "--print",
        action="store_true",
        help="print the commands of what is left (elsewhere: the files), and run nothing",
    )
    options.add_argument(
        "--config", metavar="FILE[:ARG]", help="config file of a sweep without ROWS"
    )
    options.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=VALUE,VALUE",
        help="values of a setting; several times for all combinations",
    )
    options.add_argument(
        "--config.GROUP.NAME", metavar="VALUE", help="override of a setting in all rows"
    )
    add_launch_options(options)
    chosen = options.read(rest)
    elsewhere = is_elsewhere(chosen)
    if not chosen.workdir:
        place = "gs://BUCKET/name" if elsewhere else "runs/name"
        raise Mistake(f"A folder for the sweep is needed: --workdir={place}.")
    if elsewhere:
        if chosen.jobs > 1 or chosen.population:
            raise Mistake("--jobs and --population are for --executor=local. Leave them out.")
        check_launch(chosen, chosen.files or [spec])
        given = {key.removeprefix("data."): text for key, text in assignments}
        check_data_is_sent(given, chosen.executor)
    if chosen.print and chosen.population:
        raise Mistake("--print prints a command for each member. Leave --population out.")
    scale, seeds = "", list(range(chosen.seeds or 1))
    if chosen.files and not spec and not chosen.sweep:
        scale, rows = rows_of_files(chosen.files, chosen.scale, assignments)
    elif chosen.files or not spec:
        raise Mistake(
            "Name either config files with ROWS (configs/table3/*.py --scale=laptop), or one "
            "config and its values (--config=configs/quickstart.py --sweep model.num_heads=1,2)."
        )
    else:
        if chosen.scale is not None:
            raise Mistake(f"--scale is for files with ROWS. Write --config={spec}:ARG instead.")
        axes = [read_axis(text) for text in chosen.sweep]
        if elsewhere:
            for key, values in axes:
                for value in values:
                    check_data_is_sent({key.removeprefix("data."): value}, chosen.executor)
        rows, swept_seeds = rows_of_product(spec, axes, assignments)
        if swept_seeds and chosen.seeds:
            raise Mistake("Seeds are in --seeds and in --sweep train.seed. Leave one out.")
        seeds = swept_seeds or seeds
    if chosen.protocol:
        # Imported late: others do without.
        from jaxformer.io.protocol import check_protocol

        with mistakes():
            for language in {row.config["data"]["target"] for row in rows}:
                check_protocol(chosen.protocol, language)
    if elsewhere:
        return _launch(chosen, rows, scale, seeds)
    folder = open_workdir(chosen.workdir)
    if in_bucket(folder) and not chosen.print:
        raise Mistake(
            f"{folder} lies in a bucket, where the logs of members that run here cannot grow. Give "
            "a local --workdir, or run the commands that --print shows."
        )
    with mistakes():
        members = expand(rows, seeds, chosen.workdir, chosen.protocol)
        manifest = extended(folder, Manifest(scale, members))
        members = _choose(members, chosen.only)
        check_models(rows)
        write_manifest(chosen.workdir, manifest)
        left = [member for member in members if read_scores(chosen.workdir, member) is None]
    if chosen.print:
        for member in left:
            print(f"{shlex.join(member.argv)} && {shlex.join(member.evaluate)}")
        return 0
    lost = {}
    if chosen.population:
        lost = _train_together(left, folder, chosen.population)
        left = [member for member in left if member.id not in lost]
    code = _run(members, left, folder, chosen.jobs, num_lost=len(lost))
    for name, why in lost.items():
        print(f"{name} failed: {why}", file=sys.stderr)
    return 1 if lost else code


def _launch(
    chosen: argparse.Namespace, rows: Sequence[Row], scale: str, seeds: Sequence[int]
) -> int:
    """Writes what runs members elsewhere, and the manifest beside it; returns the exit code."""
    folder = launch_folder(chosen)
    with mistakes():
        manifest = Manifest(scale, expand(rows, seeds, chosen.workdir, chosen.protocol))
        members = _choose(manifest.members, chosen.only)
        before = read_manifest(folder)
        if before is not None:
            place = chosen.workdir.rstrip("/")
            if any(f"--workdir={place}/{each.workdir}" not in each.argv for each in before.members):
                raise Mistake(
                    f"{folder / 'manifest.json'} is of a sweep with another --workdir. Give "
                    "another --launch_dir, or remove it."
                )
            manifest = extend(before, manifest, "--launch_dir")
        for row in rows:
            check_data_is_sent(row.config["data"], chosen.executor, is_resolved=True)
        check_models(rows, find_slice(chosen.topology).chips)
    return launch(chosen, member_jobs(members, chosen.workdir), manifest)


def extended(folder: Path, manifest: Manifest) -> Manifest:
    """Returns the manifest with what the folder has already, which must not be trained otherwise.

    Raises: ValueError or Mistake if it is.
    """
    trained = [
        member for member in manifest.members if (folder / member.workdir / "config.json").exists()
    ]
    if trained:
        # Imported late: it imports jax.
        from jaxformer.io.record import check_config

        for member in trained:
            check_config(folder / member.workdir, member.config, _MAY_CHANGE, settings.complete)
    before = read_manifest(folder)
    return manifest if before is None else extend(before, manifest)


def _choose(members: Sequence[Member], pattern: str | None) -> Sequence[Member]:
    if pattern is None:
        return members
    chosen = [member for member in members if fnmatch.fnmatchcase(member.id, pattern)]
    if not chosen:
        raise Mistake(
            f"--only={pattern} is none of the {len(members)} members, such as {members[0].id}."
        )
    return chosen


def _train_together(left: Sequence[Member], folder: Path, most: int) -> dict[str, str]:
    """Trains the members that may share a program; what this leaves over is trained alone.

    Returns: id of each member that cannot be trained to the end -> why.
    Raises: Mistake, before anything is trained, if a model cannot be one of several, or this host
      is.
    """
    lost: dict[str, str] = {}
    groups = [numbers for numbers in group([m.config for m in left], most) if len(numbers) > 1]
    together = sum(map(len, groups))
    print(f"Programs of several members: {len(groups)}, of {together} of {len(left)} members.")
    if not groups:
        return lost
    # Imported late: it imports jax.
    from jaxformer.cli.start_population import (
        Training,
        check_alone,
        check_mapped,
        train_population,
    )

    check_alone()
    for numbers in list(groups):
        try:
            check_mapped(left[numbers[0]].config)
        except Mistake:
            raise
        except Exception:  # noqa: BLE001 - a function of the user's may raise anything
            # It keeps each member alone from being trained, too, and is said where that is tried.
            groups.remove(numbers)
    for numbers in groups:
        chosen = [left[number] for number in numbers]
        try:
            outcomes = train_population(
                [
                    Training(
                        config=member.config,
                        workdir=folder / member.workdir,
                        argv=member.argv,
                        overrides=member.overrides,
                    )
                    for member in chosen
                ]
            )
        except Mistake as mistake:
            # Perhaps of one of them only.
            ids = ", ".join(member.id for member in chosen)
            print(f"Training {ids} together has ended: {mistake}", file=sys.stderr)
            continue
        for member, outcome in zip(chosen, outcomes, strict=True):
            if outcome:
                lost[member.id] = outcome
    return lost


def _run(
    members: Sequence[Member], left: Sequence[Member], folder: Path, jobs: int, *, num_lost: int
) -> int:
    """Runs what is left, says what has failed, and returns the exit code.

    Args:
      num_lost: members that are neither left nor finished.
    """
    with Progress(sys.stdout, 0) as progress:
        finished = len(members) - len(left) - num_lost
        report = _Report(progress, len(members), left, folder, finished=finished)
        progress.say(
            f"{len(members)} members, {finished} of them finished: {folder / 'manifest.json'}"
        )
        try:
            with file_mistakes():
                outcomes = run_local(left, folder, report, jobs=jobs)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Interrupted with {report.finished} of {len(members)} members finished. The same "
                "command goes on with the others."
            ) from None
        progress.say(
            f"{report.finished} of {len(members)} members are finished, after "
            f"{duration(report.forecast.elapsed)}: {folder}"
        )
    failed = [outcome for outcome in outcomes if outcome.failure]
    for outcome in failed:
        log = folder / outcome.member.workdir / "log.txt"
        print(f"{outcome.member.id} failed: {outcome.failure} (see {log})", file=sys.stderr)
    if failed:
        print("The same command tries again what has failed.", file=sys.stderr)
    return 1 if failed else 0


class _Report:
    """Says how a sweep goes on: a line for each start and end, and a live one on a terminal."""

    def __init__(
        self,
        progress: Progress,
        total: int,
        left: Sequence[Member],
        folder: Path,
        *,
        finished: int,
    ) -> None:
        self.finished, self.forecast = finished, Forecast(left, folder)
        self._progress, self._folder, self._total = progress, folder, total
        self._failed = 0
        self._next_tick = 0.0

    def started(self, member: Member) -> None:
        step = last_step(self._folder, member)
        changes = ", ".join(f"{key}={value}" for key, value in member.overrides.items())
        self._progress.say(
            f"{member.id}: {f'going on after step {step:,}' if step else 'started'}"
            + (f" ({changes})" if changes else "")
        )

    def ended(self, outcome: Outcome) -> None:
        member = outcome.member
        self.forecast.end(member, is_finished=not outcome.failure)
        if outcome.failure:
            self._failed += 1
            how = f"failed: {outcome.failure}"
        else:
            self.finished += 1
            how = f"finished in {duration(outcome.seconds)}{self._scores(member)}"
        self._progress.say(f"{member.id}: {how}  [{self._overall()}]")

    def tick(self, running: Sequence[Member]) -> None:
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + 1.0
        for member in running:
            self.forecast.advance(member)
        places = ", ".join(f"{member.id} {self._place(member)}" for member in running)
        self._progress.wait(f"{self._overall()}  {places}")

    def _place(self, member: Member) -> str:
        step = last_step(self._folder, member)
        if step >= member.num_steps:
            return "is being scored"
        return f"at step {step:,}/{member.num_steps:,}"

    def _overall(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        seconds = self.forecast.seconds_left()
        left = "" if seconds is None else f"  left {duration(seconds)}"
        return f"{self.finished} of {self._total} finished{failed}{left}"

    def _scores(self, member: Member) -> str:
        scores = read_scores(self._folder, member)
        if scores is None:
            return ""
        published = ""
        if member.protocol:
            published = f", {member.protocol} {float(scores['published_protocol']['bleu']):.2f}"
        return (
            f", sacreBLEU {float(scores['bleu']):.2f}{published}"
            f", perplexity {float(scores['perplexity']):.3f}"
        )
