"""`jaxformer preflight`: what a training will need on a machine, before there is one."""

import json
import os
import sys
from collections.abc import Sequence

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.cli.options import Options

_EPILOG = """\
Compiles the training step and the decoding program of a config for the devices here, or for a slice
of TPUs, which need not be there (the extra `tpu` brings its compiler). Nothing is run and no text
is read. Exit code 1 if something does not fit. docs/preflight.md says how to read the figures.
"""


def run(argv: Sequence[str]) -> int:
    """Examines a config; returns the exit code."""
    spec, assignments, rest = config_lib.split_arguments(argv)
    options = Options("preflight", "Memory, time and traffic of a training, foretold.", _EPILOG)
    options.add_argument(
        "--config", metavar="FILE[:ARG]", help="Python file with the settings (see configs/)"
    )
    options.add_argument(
        "--config.GROUP.NAME", metavar="VALUE", help="override of a setting, as often as needed"
    )
    options.add_argument(
        "--topology", metavar="SLICE", help="a slice of TPUs, such as v5e:4x4, instead of this host"
    )
    options.add_argument(
        "--all_shapes", action="store_true", help="every shape of batches, not just the largest"
    )
    options.add_argument(
        "--no_search", action="store_true", help="the training step alone, in half the time"
    )
    options.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = options.read(rest)
    if not spec:
        raise Mistake("A config is needed: --config=configs/quickstart.py, for instance.")
    with mistakes():
        tree = config_lib.load(spec)
        overrides = config_lib.override(tree, assignments)
        settings.check(tree.to_dict())
    if chosen.topology:
        # Before jax is imported: no device of this host is to be taken.
        os.environ["JAX_PLATFORMS"] = "cpu"

    # Imported late, so that a mistake in the settings is answered at once.
    from jaxformer.cli.examine import examine
    from jaxformer.cli.preflight_text import describe

    found = examine(
        tree.to_dict(),
        topology=chosen.topology or "",
        all_shapes=chosen.all_shapes,
        with_search=not chosen.no_search,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if chosen.json:
        asked = {"config": spec, "overrides": overrides, "topology": chosen.topology or ""}
        print(json.dumps({"asked": asked, **found}, indent=2))
    else:
        print(f"{spec} on {describe(found)}")
    return 0 if found["verdict"]["fits"] else 1
