"""Our stacks against PyTorch's in post-norm form, with the same weights, forward and backward.

The arrays come from tests/golden/torch.npz, which tests/golden/make_torch_golden.py writes; where
torch is installed, also from running that script's computation.
"""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import Mask, Positions
from jaxformer.model.layers import LayerSpec
from jaxformer.model.transformer import Decoder, Encoder

GOLDEN = Path(__file__).parent.parent / "golden"
SPEC = LayerSpec(15, 23, num_heads=3, d_k=5, d_v=5, attention_bias=True, norm_epsilon=1e-5)


def is_close(one, other):
    return np.max(np.abs(one - other)) < 1e-5 * np.max(np.abs(other))


def attention_params(weights, name):
    """torch stacks W^Q, W^K, W^V, each [out, in], and puts a head's outputs side by side."""
    params = {}
    for number, part in enumerate(("query", "key", "value")):
        rows = slice(number * SPEC.d_model, (number + 1) * SPEC.d_model)
        params[part] = {
            "kernel": weights[f"{name}.in_proj_weight"][rows].T.reshape(-1, 3, 5),
            "bias": weights[f"{name}.in_proj_bias"][rows].reshape(3, 5),
        }
    kernel_HVD = weights[f"{name}.out_proj.weight"].T.reshape(3, 5, -1)
    return {**params, "out": {"kernel": kernel_HVD, "bias": weights[f"{name}.out_proj.bias"]}}


def params_of(weights, layer):
    """Returns the parameters of our layer, given all of torch's weights by name."""

    def linear(name):
        return {
            "kernel": weights[f"{layer}.{name}.weight"].T,
            "bias": weights[f"{layer}.{name}.bias"],
        }

    def norm(number):
        name = f"{layer}.norm{number}"
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    params = {
        "attention": attention_params(weights, f"{layer}.self_attn"),
        "attention_norm": norm(1),
        "feed_forward": {"inner": linear("linear1"), "outer": linear("linear2")},
    }
    if f"{layer}.norm3.weight" not in weights:
        return {**params, "feed_forward_norm": norm(2)}
    return {
        **params,
        "cross_attention": attention_params(weights, f"{layer}.multihead_attn"),
        "cross_attention_norm": norm(2),
        "feed_forward_norm": norm(3),
    }


def forward(leaves, padding):
    """Returns the output of our encoder, or of our decoder where there is memory."""
    params = {f"layer_{number}": params_of(leaves, f"layers.{number}") for number in range(2)}
    x_BTD = leaves["x"]
    place_1T = np.arange(x_BTD.shape[1])[None]
    positions = Positions(place_1T, place_1T)
    if "memory" not in leaves:
        mask = Mask(key_valid_BS=~padding["x_padding"])
        return Encoder(SPEC, 2).apply({"params": params}, x_BTD, mask, positions, None)
    memory_BSD = leaves["memory"]
    return Decoder(SPEC, 2).apply(
        {"params": params},
        x_BTD,
        memory_BSD,
        # Padding comes last, so that causality alone hides it.
        Mask(causal=True),
        Mask(key_valid_BS=~padding["memory_padding"]),
        positions,
        Positions(place_1T, np.arange(memory_BSD.shape[1])[None]),
        None,
    )


@jax.jit
def ours(leaves, padding, cotangent_BTD):
    """Returns the output, and the gradients of sum(output * cotangent) in torch's layout."""

    def total(leaves):
        out_BTD = forward(leaves, padding)
        return jnp.sum(out_BTD * cotangent_BTD), out_BTD

    gradients, out_BTD = jax.grad(total, has_aux=True)(leaves)
    return out_BTD, gradients


def compare(arrays):
    """Compares one stack; `arrays` as the script names them."""
    padding = {name: array for name, array in arrays.items() if name.endswith("_padding")}
    expected = {
        name: arrays[f"gradient of {name}"] for name in arrays if f"gradient of {name}" in arrays
    }
    leaves = {name: arrays[name] for name in expected}
    out_BTD, gradients = ours(leaves, padding, arrays["cotangent"])
    is_real_BT = ~arrays["x_padding"]
    assert is_close(np.asarray(out_BTD)[is_real_BT], arrays["out"][is_real_BT])
    assert [name for name in leaves if not is_close(gradients[name], expected[name])] == []
    # Two layers' weights, x, and memory.
    assert len(leaves) == (2 * 18 + 2 if "memory" in leaves else 2 * 12 + 1)


def of_stack(arrays, stack):
    return {
        name.removeprefix(f"{stack}/"): array
        for name, array in arrays.items()
        if name.startswith(f"{stack}/")
    }


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "torch.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def live():
    return runpy.run_path(str(GOLDEN / "make_torch_golden.py"))["compute"]()


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_stack_equals_torchs(golden, stack):
    compare(of_stack(golden, stack))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_stack_equals_torchs_as_installed(live, stack):
    compare(of_stack(live, stack))


@pytest.mark.needs("torch")
def test_the_golden_file_is_what_torch_gives(live, golden):
    assert live.keys() == golden.keys()
    for name, array in live.items():
        same = is_close if array.dtype == np.float32 else np.array_equal
        assert same(array, golden[name]), name
