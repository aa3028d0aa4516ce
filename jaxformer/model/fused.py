"""Attention through `jax.nn.dot_product_attention`, for which NVIDIA's GPUs have a fused kernel."""

import math
import re
from typing import Literal

import jax
import jax.numpy as jnp

from jaxformer.model.masks import Mask, Positions

# cuDNN's kernels take heads whose width is a multiple of this.
_WIDTH_MULTIPLE = 8

# And GPUs of this compute capability or newer, as cuDNN's page on attention says and jax does not.
_OLDEST_GPU = 8, 0


def fused_attention(
    query_BTHK: jax.Array,
    key_BSHK: jax.Array,
    value_BSHV: jax.Array,
    mask: Mask,
    positions: Positions,
    implementation: Literal["cudnn", "xla"] | None = None,
) -> tuple[jax.Array, None]:
    """Eq. 1 in one kernel, forwards and backwards, that never writes the scores to memory.

    That kernel is cuDNN's, for NVIDIA's GPUs. XLA's form, for other devices, is the program of
    `dot_product_attention` over again, scores and all.

    What the kernel knows by itself is no array: that a row is causal, and the window of a causal
    row that is one sentence. All else is one array of legal links for all heads, B x T x S:
    jax's function takes no segments, and a `Mask` does not say that its padding stands at the end,
    as lengths would. As in `restricted_attention`, T equal to S means self-attention: query and key
    of an index are one token, and within a sentence the positions count up by one.

    Heads are filled with zeros where d_k and d_v differ, and for cuDNN up to a multiple of 8; rows
    of an odd length are filled with one position more.

    Args:
      implementation: "cudnn" or "xla"; None: cuDNN where jax's default device is a GPU.

    Returns: (out_BTHV, None), equal to `dot_product_attention`'s to rounding, in a row without any
      legal link too. The weights are never there to be returned.
    Raises: ValueError if cuDNN is to be used without a GPU or on one that is older than Ampere,
      with other numbers than bfloat16 and float16, or with heads wider than its kernels are.
    """
    has_gpu = jax.default_backend() == "gpu"
    implementation = implementation or ("cudnn" if has_gpu else "xla")
    is_cudnn = implementation == "cudnn"
    if is_cudnn:
        _check_cudnn(query_BTHK.dtype, has_gpu)
    queries, d_k, d_v = query_BTHK.shape[1], query_BTHK.shape[-1], value_BSHV.shape[-1]
    legal_BTS, is_causal, window = _facts(mask, positions, queries, key_BSHK.shape[1])
    width = max(d_k, d_v)
    if is_cudnn and legal_BTS is None and not is_causal and key_BSHK.shape[1] % 2:
        legal_BTS = jnp.ones((1, queries, key_BSHK.shape[1]), bool)
    if legal_BTS is not None:
        # A kernel may make anything of a row without links. Equal scores give it even weights.
        has_link_BT1 = jnp.any(legal_BTS, axis=-1, keepdims=True)
        query_BTHK = jnp.where(has_link_BT1[..., None], query_BTHK, 0)
        legal_BTS = legal_BTS | ~has_link_BT1
    if is_cudnn:
        width = -(-width // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
        query_BTHK, key_BSHK, value_BSHV = (
            _to_even(x, 1) for x in (query_BTHK, key_BSHK, value_BSHV)
        )
        if legal_BTS is not None:
            # What a row is filled with is no key for others, and as a query has some.
            legal_BTS = ~_to_even(~_to_even(legal_BTS, 2), 1)
    try:
        out_BTHV = jax.nn.dot_product_attention(
            _pad(query_BTHK, 3, width),
            _pad(key_BSHK, 3, width),
            _pad(value_BSHV, 3, width),
            mask=None if legal_BTS is None else legal_BTS[:, None],
            scale=1 / math.sqrt(d_k),
            is_causal=is_causal,
            local_window_size=window,
            implementation=implementation,
        )
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError):
            # Memory that ran out, say: not what cuDNN lacks.
            raise
        raise ValueError(
            f"cuDNN has no attention for heads of d_k={d_k} and d_v={d_v} here: {error} Leave "
            "model.attention as it is in configs/base.py."
        ) from error
    return out_BTHV[:, :queries, :, :d_v], None


def _check_cudnn(dtype: jax.typing.DTypeLike, has_gpu: bool) -> None:
    """Raises: ValueError as `fused_attention`."""
    if not has_gpu:
        raise ValueError(
            f"cuDNN's attention needs an NVIDIA GPU, and jax's default device is a "
            f"{jax.default_backend()}. Leave `implementation` out, which chooses by the device."
        )
    for device in jax.local_devices():
        # AMD's have a name there, and no cuDNN.
        capability = str(getattr(device, "compute_capability", ""))
        is_number = re.fullmatch(r"\d+\.\d+", capability)
        if is_number and tuple(map(int, capability.split("."))) < _OLDEST_GPU:
            raise ValueError(
                f"cuDNN's attention needs a GPU of compute capability 8.0 or newer, and "
                f"{capability} is that of this {device.device_kind}. Leave model.attention as it "
                "is in configs/base.py."
            )
    if dtype not in (jnp.bfloat16, jnp.float16):
        raise ValueError(
            f"On a GPU fused_attention computes in bfloat16 or float16, and got {dtype}. Set "
            "model.dtype=bfloat16, or leave model.attention as it is in configs/base.py."
        )


def _facts(
    mask: Mask, positions: Positions, queries: int, keys: int
) -> tuple[jax.Array | None, bool, tuple[int, int] | None]:
    """Returns what jax's function is told: (legal_BTS or None, is_causal, window).

    T of legal_BTS is that of the queries; its B may be 1.
    """
    # Then a query sees itself at least, so that causality leaves no row without links.
    is_row = queries == keys and mask.key_valid_BS is None and mask.allowed_BTS is None
    is_causal, window = mask.causal and is_row, None
    if is_causal:
        mask = mask.replace(causal=False)
        is_one_sentence = mask.query_segment_BT is None or mask.key_segment_BS is None
        if is_one_sentence and mask.window is not None:
            window = mask.window - 1, 0
            mask = mask.replace(window=None)
    legal_BTS = mask.materialise(positions)
    if legal_BTS is not None:
        legal_BTS = jnp.broadcast_to(legal_BTS, (legal_BTS.shape[0], queries, keys))
    return legal_BTS, is_causal, window


def _to_even(x: jax.Array, axis: int) -> jax.Array:
    """Adds a place of zeros where an axis is odd, which cuDNN's backward pass does not take."""
    return _pad(x, axis, x.shape[axis] + x.shape[axis] % 2)


def _pad(x: jax.Array, axis: int, size: int) -> jax.Array:
    """Fills an axis up to a size with zeros."""
    before_and_after = [(0, 0)] * x.ndim
    before_and_after[axis] = 0, size - x.shape[axis]
    return jnp.pad(x, before_and_after)
