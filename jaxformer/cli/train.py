"""`jaxformer train`: from a config to a trained model in a workdir."""

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
from jaxformer.cli.workdir import held, open_workdir
from jaxformer.study.launch import Job, job_name

_EPILOG = """\
Any setting of the config can be overridden: --config.train.num_steps=500. configs/base.py lists and
explains all of them. Started again with the same settings, a training goes on from its newest
checkpoint; train.num_steps and train.patience may then be larger. With --executor=skypilot, xpk or
gcloud it writes the files that start it on a slice of TPUs, and starts nothing.
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
    if not chosen.workdir:
        raise Mistake("A folder for the run is needed: --workdir=runs/name.")
    elsewhere = is_elsewhere(chosen)
    if chosen.print and not elsewhere:
        raise Mistake("--print prints what --executor writes. Name one, such as skypilot.")
    if elsewhere and chosen.coordinator_address:
        raise Mistake(
            "The hosts of a slice find each other. Leave --coordinator_address, --num_processes "
            "and --process_id out."
        )
    with mistakes():
        tree = config_lib.load(spec)
        overrides = config_lib.override(tree, assignments)
        settings.check(tree.to_dict())
        config_lib.resolve_paths(tree)
    if elsewhere:
        check_launch(chosen, [spec])
        _check_model(tree.to_dict())
        command = ["jaxformer", "train", *without_launch_options(argv)]
        title = chosen.workdir.rstrip("/").rpartition("/")[2]
        return launch(chosen, [Job(job_name(title, chosen.workdir), [command])])
    workdir = open_workdir(chosen.workdir)
    with joined(chosen) as is_first, held(workdir, is_first, chosen.lost_timeout):
        # Imported late, so that a mistake in the settings is answered at once.
        from jaxformer.cli import start

        argv = ["jaxformer", "train", *argv]
        start.train(tree.to_dict(), workdir, argv, overrides, debug_nans=chosen.debug_nans)
    return 0


def _check_model(config: Mapping[str, Any]) -> None:
    """Finds what would fail on machines that are paid for."""
    # Imported late, so that a mistake in the settings is answered at once.
    from jaxformer.cli import build

    with mistakes():
        build.make_model(config, config["data"]["vocab_size"])
        build.make_rate(config)
