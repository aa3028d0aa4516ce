"""A small model whose every dimension is another prime, with parameters of which none is zero."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxformer.model import EOS, PAD, Transformer, dot_product_attention

SIZES = {
    "vocab_size": 41,
    "d_model": 17,
    "d_ff": 23,
    "num_heads": 2,
    "d_k": 7,
    "d_v": 11,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
}


@pytest.fixture(scope="session")
def make_model():
    """Returns the small model, with changes."""
    return lambda **changes: Transformer(**{**SIZES, **changes})


@pytest.fixture(scope="session")
def make_params():
    """Returns random parameters of a module called on these inputs, biases and norms included."""

    def make(module, *inputs):
        shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
        rng = np.random.default_rng(0)

        def draw(path, leaf):
            is_scale = path[-1].key == "scale"
            return (0.4 * rng.normal(size=leaf.shape) + is_scale).astype(leaf.dtype)

        return jax.tree_util.tree_map_with_path(draw, shapes)

    return make


@pytest.fixture(scope="session")
def params_of(make_params):
    """Returns random parameters of a Transformer."""
    token_BT = np.ones((1, 2), np.int32)
    return functools.cache(lambda model: make_params(model, token_BT, token_BT))


@pytest.fixture(scope="session")
def apply():
    """Returns what a module gives, compiled: apply(module, params, *inputs, method=name)."""

    @functools.partial(jax.jit, static_argnames=("module", "method"))
    def run(module, params, *inputs, method="__call__"):
        return module.apply({"params": params}, *inputs, method=method)

    return run


@pytest.fixture(scope="session")
def sentences():
    """Returns token rows of a width: random words, EOS, PAD; a length counts the EOS."""

    def make(lengths, width, seed=0):
        rng = np.random.default_rng(seed)
        token_BT = np.full((len(lengths), width), PAD, np.int32)
        for row, length in enumerate(lengths):
            if length:
                token_BT[row, : length - 1] = rng.integers(4, SIZES["vocab_size"], length - 1)
                token_BT[row, length - 1] = EOS
        return token_BT

    return make


class Tempered(nn.Module):
    """Attention with a parameter of its own: a temperature a head."""

    @nn.compact
    def __call__(self, query_BTHK, key_BSHK, value_BSHV, mask, positions):
        temperature_H1 = self.param("temperature", nn.initializers.ones, (query_BTHK.shape[2], 1))
        return dot_product_attention(
            query_BTHK * temperature_H1, key_BSHK, value_BSHV, mask, positions
        )


@pytest.fixture(scope="session")
def tempered():
    return Tempered
