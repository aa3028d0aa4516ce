"""Names of code in settings that were read from a folder: the folder itself must not answer them.

A run's settings are data, and nothing in its folder is executed. But they name functions, which are
imported, and Python would look for those in the folder if it stood on its path.
"""

import re
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from jaxformer.cli import settings
from jaxformer.files import in_bucket


def refuse_code_within(folder: str | Path, config: Mapping[str, Any]) -> None:
    """Finds settings that name code within a folder, without importing any of it.

    Args:
      config: settings that `settings.check` has passed.

    Raises: ValueError if one of them names a module that would be imported from `folder`. From a
      bucket nothing can be.
    """
    if in_bucket(folder):
        return
    keys = [key for key, kind in settings.KINDS.items() if kind is settings.DOTTED]
    for key in (*keys, "data.corpus"):
        group, name = key.split(".")
        module, colon, _ = config[group][name].partition(":")
        if colon and _lies_within(Path(folder).resolve(), module):
            raise ValueError(
                f"{key}={config[group][name]!r} is code within {folder}, where nothing is "
                "executed. Move the module elsewhere, and put its folder on PYTHONPATH."
            )


def _lies_within(folder: Path, module: str) -> bool:
    # Of data.corpus any text is known to be no more than text.
    parts = module.split(".") if re.fullmatch(r"\w+(\.\w+)*", module) else []
    places = None
    for part in parts:
        # One part at a time, as Python does, which however would execute the packages above.
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return False
        places = list(spec.submodule_search_locations or [])
        found = [*places, *([spec.origin] if spec.has_location and spec.origin else [])]
        if any(Path(place).resolve().is_relative_to(folder) for place in found):
            return True
    return False
