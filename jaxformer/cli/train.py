"""`jaxformer train`: from a config to a trained model in a workdir."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.hosts import add_host_options, joined
from jaxformer.cli.launch import (
    add_launch_options,
    check_launch,
    is_elsewhere,
    launch,
    without_launch_options,
)
from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.cli.options import Options
from jaxformer.cli.sent import check_data_is_sent
from jaxformer.cli.workdir import held, open_workdir
from jaxformer.study.launch import Job, job_name, title
from jaxformer.study.slices import find_slice

_EPILOG = """\
Any setting of the config can be overridden: --config.train.num_steps=500. configs/base.py lists and
explains all of them. Started again with the same settings, a training goes on from its newest
checkpoint; train.patience may then be another, and so may train.num_steps and optimizer.schedule
where the steps already done had the same rates. With --executor=skypilot, xpk or gcloud it writes
the files that start it on a slice of TPUs, and starts nothing.
"""


def run(argv: Sequence[str]) -> int:
    """Trains; returns the exit code."""
    spec, assignments, rest = config_lib.split_arguments(argv)
    options = Options("train", "Trains a model, or goes on where a training has stopped.", _EPILOG)
    options.add_argument(
        "--config", metavar="FILE[:ARG]", help="Python file with the settings (see configs/)"
    )
    options.add_argument("--workdir", help="folder of the run, local or gs://")
    options.add_argument(
        "--config.GROUP.NAME", metavar="VALUE", help="override of a setting, as often as needed"
    )
    options.add_argument(
        "--debug_nans", action="store_true", help="find the operation that makes a NaN (slower)"
    )
    options.add_argument(
        "--print", action="store_true", help="elsewhere: print the files, and write nothing"
    )
    add_host_options(options)
    add_launch_options(options)
    chosen = options.read(rest)
    if not spec:
        raise Mistake("A config is needed: --config=configs/quickstart.py, for instance.")
    elsewhere = is_elsewhere(chosen)
    if not chosen.workdir:
        place = "gs://BUCKET/name" if elsewhere else "runs/name"
        raise Mistake(f"A folder for the run is needed: --workdir={place}.")
    if chosen.print and not elsewhere:
        raise Mistake("--print prints what --executor writes. Name one, such as skypilot.")
    by_hand = (chosen.coordinator_address, chosen.num_processes, chosen.process_id)
    if elsewhere and any(value is not None for value in by_hand):
        raise Mistake(
            "The hosts of a slice find each other. Leave --coordinator_address, --num_processes "
            "and --process_id out."
        )
    with mistakes():
        tree = config_lib.load(spec)
        overrides = config_lib.override(tree, assignments)
        settings.check(tree.to_dict())
    if elsewhere:
        check_launch(chosen, [spec])
        _check_on_slice(tree.to_dict(), chosen)
        command = ["jaxformer", "train", *without_launch_options(argv)]
        place = chosen.workdir.rstrip("/")
        return launch(chosen, [Job(job_name(title(place), place), [command])])
    with mistakes():
        config_lib.resolve_paths(tree)
    # Imported late, so that a mistake in the settings is answered at once.
    from jaxformer.run.allocator import keep_freed_memory

    # Before a bucket's threads, and those of other hosts.
    allocator = keep_freed_memory()
    workdir = open_workdir(chosen.workdir)
    with joined(chosen) as is_first, held(workdir, is_first, chosen.lost_timeout):
        from jaxformer.cli import start

        argv = ["jaxformer", "train", *argv]
        start.train(
            tree.to_dict(), workdir, argv, overrides, allocator, debug_nans=chosen.debug_nans
        )
    return 0


def _check_on_slice(config: Mapping[str, Any], chosen: argparse.Namespace) -> None:
    """Finds what would fail on machines that are paid for."""
    chips = find_slice(chosen.topology).chips
    if chosen.debug_nans and chips > 1:
        raise Mistake(
            f"--debug_nans looks for the operation on one device, and {chosen.topology} has "
            f"{chips}. Leave it out, or name a slice of one."
        )
    check_data_is_sent(config["data"], chosen.executor)
    # Imported late, so that a mistake in the settings is answered at once.
    from jaxformer.cli import build

    with mistakes():
        build.check_elsewhere(config, chips)
