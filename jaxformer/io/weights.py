"""Parameters from a safetensors file that another library wrote."""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all tensors of a file as float32; whole numbers stay as they are.

    Raises: OSError if it cannot be read; ValueError if it is no safetensors file, or damaged.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        tensors = load(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{os.fspath(path)!r} is not a safetensors file, or it is damaged ({error}). Fetch it "
            "again."
        ) from error
    return {
        name: tensor if np.issubdtype(tensor.dtype, np.integer) else tensor.astype(np.float32)
        for name, tensor in tensors.items()
    }


def fill(
    shapes: Any, tensors: dict[str, np.ndarray], name_of: Callable[[tuple[str, ...]], str]
) -> Any:
    """Returns parameters of the given shapes, filled from PyTorch's tensors.

    PyTorch keeps the matrix of a linear layer as (out, in), and heads side by side in one axis: a
    `kernel` here is that transposed, in the shape that this side gives it. A tensor that has been
    used is taken out of `tensors`; what is left there belongs to nothing in the model.

    Args:
      shapes: parameter tree of arrays or of `jax.ShapeDtypeStruct`.
      name_of: path in the tree -> name of the tensor.

    Raises: ValueError if a tensor is not there, or has another number of values.
    """

    def take(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        keys = tuple(entry.key for entry in path)
        name = name_of(keys)
        if name not in tensors:
            raise ValueError(
                f"There is no tensor {name!r} for {'/'.join(keys)}. Give the file of a model of "
                "this form."
            )
        tensor = tensors.pop(name)
        if tensor.size != np.prod(leaf.shape):
            raise ValueError(
                f"Tensor {name!r} has shape {tensor.shape}, and {'/'.join(keys)} needs "
                f"{leaf.shape}. Give the settings and the tensors of one and the same model."
            )
        return (tensor.T if keys[-1] == "kernel" else tensor).reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(take, shapes)
