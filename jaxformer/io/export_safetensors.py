"""A model's parameters as a file of safetensors: names, shapes and float32 numbers, no code.

docs/export.md lists the names and shapes.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

_SEPARATOR = "."


def save(
    params: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str]
) -> None:
    """Writes nested parameters under dotted names.

    Args:
      metadata: kept in the file's header.

    Raises: OSError if the file cannot be written.
    """
    flat = flatten_dict(params, sep=_SEPARATOR)
    tensors = {name: np.ascontiguousarray(flat[name]) for name in sorted(flat)}
    save_file(tensors, path, metadata=dict(metadata))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the parameters that `save` was given, nested, as NumPy's arrays.

    Raises: OSError if there is no such file, ValueError if it is none of safetensors.
    """
    try:
        return unflatten_dict(load_file(path), sep=_SEPARATOR)
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)} is not a file of safetensors: {error}.") from error
