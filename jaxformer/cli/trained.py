"""What `evaluate` and `translate` share: a workdir's settings, with overrides for decoding."""

import fnmatch
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.mistakes import Mistake, mistakes

# What a trained model does not depend on.
MAY_OVERRIDE = ("decode.*", "data.data_dir", "data.manual_dir", "data.valid_*", "data.test_*")


def read_settings(workdir: str, assignments: Sequence[config_lib.Assignment]) -> dict[str, Any]:
    """Reads workdir/config.json and applies the overrides; nothing in the workdir is executed.

    Raises: Mistake if there is no such file, a setting is wrong, or one that the trained model
      depends on is to be overridden.
    """
    from jaxformer.io.record import read_config

    with mistakes():
        tree = ConfigDict(read_config(workdir)).lock()
        settings.check(tree.to_dict())
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
