"""`jaxformer train`: from a config to a trained model in a workdir."""

from collections.abc import Sequence

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.hosts import add_host_options, joined
from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.cli.options import Options
from jaxformer.cli.workdir import held, open_workdir

_EPILOG = """\
Any setting of the config can be overridden: --config.train.num_steps=500. configs/base.py lists and
explains all of them. Started again with the same settings, a training goes on from its newest
checkpoint; train.num_steps and train.patience may then be larger.
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
    add_host_options(options)
    chosen = options.read(rest)
    if not spec:
        raise Mistake("A config is needed: --config=configs/quickstart.py, for instance.")
    if not chosen.workdir:
        raise Mistake("A folder for the run is needed: --workdir=runs/name.")
    with mistakes():
        tree = config_lib.load(spec)
        overrides = config_lib.override(tree, assignments)
        settings.check(tree.to_dict())
        config_lib.resolve_paths(tree)
    workdir = open_workdir(chosen.workdir)
    with joined(chosen) as is_first, held(workdir, is_first, chosen.lost_timeout):
        # Imported late, so that a mistake in the settings is answered at once.
        from jaxformer.cli import start

        argv = ["jaxformer", "train", *argv]
        start.train(tree.to_dict(), workdir, argv, overrides, debug_nans=chosen.debug_nans)
    return 0
