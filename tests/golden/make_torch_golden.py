"""Writes torch.npz: what PyTorch's post-norm stacks give, forward and backward, for fixed numbers.

    python tests/golden/make_torch_golden.py

Needs torch. Weights and inputs come from NumPy's generator, so that another version of torch gives
the same file but for rounding. Names are `<stack>/<what>`; a weight goes by torch's name, and what
begins with `gradient of ` is the gradient of sum(output * cotangent). Padding is True at padding,
as torch has it; the cotangent is zero there.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

PATH = Path(__file__).with_name("torch.npz")
B, S, T, D, H, F, N = 5, 11, 7, 15, 3, 23, 2
SOURCE_LENGTHS = [11, 5, 1, 8, 3]
TARGET_LENGTHS = [7, 2, 4, 1, 6]


def layer_arguments() -> dict:
    return {
        "d_model": D,
        "nhead": H,
        "dim_feedforward": F,
        "dropout": 0.0,
        "batch_first": True,
        "norm_first": False,
        "layer_norm_eps": 1e-5,
    }


def run(stack: nn.Module, rng: np.random.Generator, inputs: dict, padding: dict, call) -> dict:
    """Returns the arrays of one stack: inputs, weights, output, and the gradients of a sum."""
    with torch.no_grad():
        for name, weight in stack.named_parameters():
            is_scale = ".norm" in name and name.endswith("weight")
            weight.copy_(torch.tensor(0.4 * rng.normal(size=weight.shape) + is_scale))
    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in inputs.items()}
    out = call(stack, **tensors)
    cotangent = rng.normal(size=out.shape).astype(np.float32)
    cotangent[padding["x_padding"]] = 0.0
    (out * torch.tensor(cotangent)).sum().backward()
    leaves = {**tensors, **dict(stack.named_parameters())}
    arrays = {name: leaf.detach().numpy() for name, leaf in leaves.items()}
    gradients = {f"gradient of {name}": leaf.grad.numpy() for name, leaf in leaves.items()}
    return {**padding, **arrays, **gradients, "cotangent": cotangent, "out": out.detach().numpy()}


def compute() -> dict[str, np.ndarray]:
    """Returns every array of the golden file by its name."""
    rng = np.random.default_rng(0)
    source_padding = np.arange(S) >= np.array(SOURCE_LENGTHS)[:, None]
    target_padding = np.arange(T) >= np.array(TARGET_LENGTHS)[:, None]
    source_BSD = rng.normal(size=(B, S, D)).astype(np.float32)
    target_BTD = rng.normal(size=(B, T, D)).astype(np.float32)
    memory_BSD = rng.normal(size=(B, S, D)).astype(np.float32)
    encoder = run(
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**layer_arguments()),
            N,
            norm=None,
            enable_nested_tensor=False,
        ),
        rng,
        {"x": source_BSD},
        {"x_padding": source_padding},
        lambda stack, x: stack(x, src_key_padding_mask=torch.tensor(source_padding)),
    )
    decoder = run(
        nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer_arguments()), N, norm=None),
        rng,
        {"x": target_BTD, "memory": memory_BSD},
        {"x_padding": target_padding, "memory_padding": source_padding},
        lambda stack, x, memory: stack(
            x,
            memory,
            tgt_mask=torch.ones(T, T, dtype=torch.bool).triu(1),
            tgt_key_padding_mask=torch.tensor(target_padding),
            memory_key_padding_mask=torch.tensor(source_padding),
        ),
    )
    return {
        f"{stack}/{name}": array
        for stack, arrays in (("encoder", encoder), ("decoder", decoder))
        for name, array in arrays.items()
    }


if __name__ == "__main__":
    np.savez_compressed(PATH, **compute())
    print(f"{PATH}: {PATH.stat().st_size} bytes, torch {torch.__version__}")
