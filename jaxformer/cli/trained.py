"""What the commands on a trained run share: its settings, with overrides for decoding."""

import argparse
import fnmatch
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.cli.names import refuse_code_within
from jaxformer.cli.options import Options, whole_number
from jaxformer.cli.workdir import open_workdir

# What a trained model does not depend on.
MAY_OVERRIDE = ("decode.*", "data.data_dir", "data.manual_dir", "data.valid_*", "data.test_*")


def make_options(command: str, description: str, epilog: str, *, decodes: bool = True) -> Options:
    """Returns the options that all of them have, and those of a command that decodes."""
    options = Options(command, description, epilog)
    options.add_argument("--workdir", help="folder of the run")
    if not decodes:
        return options
    options.add_argument("--num_beams", type=whole_number, help="1 for greedy search")
    options.add_argument("--alpha", type=float, help="exponent of the length penalty")
    options.add_argument(
        "--length_penalty",
        metavar="MODULE:NAME",
        help="jaxformer.decode:gnmt_penalty, as in the paper, "
        "jaxformer.decode:length_normalisation, or another",
    )
    return options


def read(options: Options, argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Reads a command line.

    Returns: (the options, the settings of the workdir with what the command line overrides).
    Raises: Mistake if anything is wrong with either.
    """
    spec, assignments, rest = config_lib.split_arguments(argv)
    chosen = options.read(rest)
    if spec:
        raise Mistake("The settings are those of the workdir: leave --config=... out.")
    if not chosen.workdir:
        raise Mistake("Name the folder of a run: --workdir=runs/name.")
    # Settings like any other, so that they are checked like them.
    for name in ("num_beams", "alpha", "length_penalty"):
        value = getattr(chosen, name, None)
        if value is not None:
            assignments.append((f"decode.{name}", str(value)))
    open_workdir(chosen.workdir)
    return chosen, read_settings(chosen.workdir, assignments)


def read_settings(workdir: str, assignments: Sequence[config_lib.Assignment]) -> dict[str, Any]:
    """Reads workdir/config.json and applies the overrides; nothing in the workdir is executed.

    Raises: Mistake if there is no such file, a setting is wrong, or one that the trained model
      depends on is to be overridden.
    """
    from jaxformer.io.record import read_config

    with mistakes():
        config = settings.complete(read_config(workdir))
        settings.check(config)
        refuse_code_within(workdir, config)
        tree = ConfigDict(config).lock()
        for key in config_lib.override(tree, assignments):
            if not any(fnmatch.fnmatchcase(key, pattern) for pattern in MAY_OVERRIDE):
                raise Mistake(
                    f"{key} belongs to the trained model and cannot be changed now; what can is "
                    f"{', '.join(MAY_OVERRIDE)}."
                )
        # Fewer checkpoints may be there than are asked for; `keep` is of the training.
        tree.train.keep_checkpoints = max(tree.train.keep_checkpoints, tree.decode.average)
        settings.check(tree.to_dict())
        config_lib.resolve_paths(tree)
    return tree.to_dict()
