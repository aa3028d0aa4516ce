"""Eq. 2, the activation as an argument, and the norm's statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model.layers import FeedForward, LayerSpec

B, T, D, F = 5, 13, 17, 23
X_BTD = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
ACTIVATIONS = {"relu": (jax.nn.relu, lambda x: np.maximum(x, 0.0)), "tanh": (jnp.tanh, np.tanh)}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_equation_2(apply, make_params, name):
    activation, expected_activation = ACTIVATIONS[name]
    module = FeedForward(D, F, activation)
    params = make_params(module, X_BTD)
    inner_BTF = X_BTD @ params["inner"]["kernel"] + params["inner"]["bias"]
    assert inner_BTF.shape == (B, T, F)
    outer = params["outer"]
    expected_BTD = expected_activation(inner_BTF) @ outer["kernel"] + outer["bias"]
    np.testing.assert_allclose(apply(module, params, X_BTD), expected_BTD, rtol=0, atol=1e-5)


def test_the_default_activation_is_the_papers():
    assert FeedForward(D, F).activation is LayerSpec(D, F, 2, 7, 11).activation is jax.nn.relu


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_layer_norm(apply, make_params, epsilon):
    module = LayerSpec(D, F, 2, 7, 11, norm_epsilon=epsilon).make_norm()
    params = make_params(module, X_BTD)
    deviation_BT1 = np.sqrt(X_BTD.var(axis=-1, keepdims=True) + epsilon)
    normal_BTD = (X_BTD - X_BTD.mean(axis=-1, keepdims=True)) / deviation_BT1
    expected_BTD = normal_BTD * params["scale"] + params["bias"]
    np.testing.assert_allclose(apply(module, params, X_BTD), expected_BTD, rtol=0, atol=1e-5)


def test_layer_norm_has_float32_statistics_under_bfloat16(apply):
    module = LayerSpec(D, F, 2, 7, 11, dtype=jnp.bfloat16).make_norm()
    ones, zeros = np.ones(D, np.float32), np.zeros(D, np.float32)
    # In bfloat16, 64 plus a little is 64.
    x_BTD = jnp.asarray(64 + X_BTD.round(), jnp.bfloat16)
    out_BTD = apply(module, {"scale": ones, "bias": zeros}, x_BTD)
    x_BTD = np.asarray(x_BTD, np.float64)
    expected_BTD = (x_BTD - x_BTD.mean(-1, keepdims=True)) / x_BTD.std(-1, keepdims=True)
    assert out_BTD.dtype == jnp.bfloat16
    np.testing.assert_allclose(out_BTD.astype(jnp.float32), expected_BTD, rtol=0, atol=0.02)
