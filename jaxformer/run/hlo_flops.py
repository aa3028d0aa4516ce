"""Floating-point operations of a compiled program's matrix products, from their shapes."""

import json
import math
import re

from jaxformer.run.hlo import Computation, Operation

_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
# Of a kernel of jax's splash attention: how often it makes products of all queries, keys and d_k,
# and of all queries, keys and d_v. It makes the scores again in each that goes backwards.
_KERNELS = {"splash_mha_fwd": (1, 1), "splash_mha_dq": (2, 1), "splash_mha_dkv": (2, 2)}


def product_flops(computation: Computation, operation: Operation) -> float:
    """Returns 2 for every multiplication and addition of a product, 0 for other operations.

    TPU's compiler writes products as convolutions, and cuBLAS's are calls. A kernel of splash
    attention counts the tiles that a causal mask spares it, too.
    """
    if operation.opcode == "dot":
        found = _CONTRACTED.search(operation.rest)
        contracted = [int(each) for each in found[1].split(",") if each] if found else []
        return _dot(computation, operation, contracted)
    if operation.opcode == "convolution":
        return _convolution(computation, operation)
    if operation.opcode == "custom-call" and "__cublas$" in operation.rest:
        found = re.search(r'"lhs_contracting_dimensions":(\[[^\]]*\])', operation.rest)
        contracted = [int(each) for each in json.loads(found[1])] if found else []
        return _dot(computation, operation, contracted)
    if operation.opcode == "custom-call":
        for name, products in _KERNELS.items():
            if operation.name.startswith(name):
                return _attention(computation, operation, *products)
    return 0.0


def _attention(computation: Computation, operation: Operation, by_key: int, by_value: int) -> float:
    """Counts a kernel whose first operands that are no whole numbers are Q, K and V by heads."""
    arrays = [each.results[0] for each in computation.operands(operation)]
    floats = [array.dimensions for array in arrays if array.dtype in ("f32", "bf16")]
    if len(floats) < 3:
        return 0.0
    (*rows, d_k), (*_, num_keys, _), (*_, d_v) = floats[:3]
    return 2.0 * math.prod(rows) * num_keys * (by_key * d_k + by_value * d_v)


def _dot(computation: Computation, operation: Operation, contracted: list[int]) -> float:
    left = next(computation.operands(operation)).results[0]
    shared = math.prod(left.dimensions[axis] for axis in contracted)
    return 2.0 * math.prod(operation.results[0].dimensions) * shared


def _convolution(computation: Computation, operation: Operation) -> float:
    """Counts the pairs of elements that meet: those that padding or dilation makes zero do not."""
    labels = _LABELS.search(operation.rest)
    if labels is None:
        return 0.0
    left, right = (each.results[0].dimensions for each in computation.operands(operation))
    result = operation.results[0].dimensions
    at_left, at_right, at_result = (
        {label: place for place, label in enumerate(text)} for text in labels.groups()
    )
    window = _window(operation.rest)
    pairs = 1
    for number, axis in enumerate(sorted(label for label in at_left if label.isdigit())):
        pairs *= _valid_pairs(
            left[at_left[axis]],
            right[at_right[axis]],
            result[at_result[axis]],
            {name: values[number] for name, values in window.items()},
        )
    batches = left[at_left["b"]] // _count(operation.rest, "batch_group_count")
    return 2.0 * pairs * batches * right[at_right["i"]] * right[at_right["o"]]


def _valid_pairs(length: int, taps: int, results: int, window: dict[str, str]) -> int:
    """Returns how many pairs of a result and a tap fall on an element of the operand."""
    stride = int(window.get("stride", 1))
    low = int(window.get("pad", "0_0").partition("_")[0])
    spread, tap_spread = int(window.get("lhs_dilate", 1)), int(window.get("rhs_dilate", 1))
    pairs = 0
    for tap in range(taps):
        # The place of a pair in the operand, dilated: result * stride + first.
        first = tap * tap_spread - low
        last = (length - 1) * spread
        lowest = max(0, math.ceil(-first / stride))
        highest = min(results - 1, (last - first) // stride)
        if spread == 1:
            pairs += max(0, highest - lowest + 1)
        else:
            pairs += sum(
                (result * stride + first) % spread == 0 for result in range(lowest, highest + 1)
            )
    return pairs


def _window(text: str) -> dict[str, list[str]]:
    """Returns "stride" and the like, with a value for each axis of the window."""
    found = _WINDOW.search(text)
    parts = found[1].split() if found else []
    return {name: values.split("x") for name, _, values in (part.partition("=") for part in parts)}


def _count(text: str, name: str) -> int:
    found = re.search(rf"\b{name}=(\d+)", text)
    return int(found[1]) if found else 1
