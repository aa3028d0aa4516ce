"""A model's parameters as a file of safetensors: names, shapes and float32 numbers, no code.

docs/export.md lists the names and shapes.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from jaxformer.io.weights import read_safetensors

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

    Raises: as `read_safetensors`.
    """
    return unflatten_dict(read_safetensors(path), sep=_SEPARATOR)
