"""Where norm and dropout stand around a sub-layer."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import post_norm, pre_norm

X_BTD = np.random.default_rng(0).normal(size=(5, 13, 17)).astype(np.float32)


def norm(x):
    return 3.0 * x - 1.0


def sublayer(x):
    return x**2


def dropout(x):
    return jnp.where(x > 1.0, 0.0, 2.0 * x)


FORMULAE = {
    "post-norm": (post_norm, lambda x, dropout: norm(x + dropout(sublayer(x)))),
    "pre-norm": (pre_norm, lambda x, dropout: x + dropout(sublayer(norm(x)))),
}


@pytest.mark.parametrize("name", FORMULAE)
def test_the_formula(name):
    residual, formula = FORMULAE[name]
    without = residual.connect(X_BTD, sublayer, norm, None)
    np.testing.assert_allclose(without, formula(X_BTD, lambda x: x), rtol=1e-6)
    dropped = residual.connect(X_BTD, sublayer, norm, dropout)
    np.testing.assert_allclose(dropped, formula(X_BTD, dropout), rtol=1e-6)


def test_only_pre_norm_needs_a_last_norm():
    assert (post_norm.final_norm, pre_norm.final_norm) == (False, True)
