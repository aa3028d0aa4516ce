"""Products of rounded operands against the same products in float32, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model.products import product, product_in, sum_of_outer_products
from tests.closeness import is_close

N, D, F = 28, 17, 23
RNG = np.random.default_rng(0)
X_ND = RNG.normal(size=(N, D)).astype(np.float32)
KERNEL_DF = RNG.normal(size=(D, F)).astype(np.float32)
WEIGHT_NF = RNG.normal(size=(N, F)).astype(np.float32)


def rounded(array):
    return np.asarray(jnp.asarray(array, jnp.bfloat16).astype(jnp.float32))


def gradients(function):
    weighted_sum = lambda x, kernel: jnp.sum(function(x, kernel) * WEIGHT_NF)  # noqa: E731
    return jax.jit(jax.grad(weighted_sum, (0, 1)))(X_ND, KERNEL_DF)


def test_operands_are_rounded_and_sums_are_not():
    out_NF = product(X_ND, KERNEL_DF, jnp.bfloat16)
    assert out_NF.dtype == jnp.float32
    assert is_close(out_NF, rounded(X_ND) @ rounded(KERNEL_DF))
    assert not is_close(out_NF, X_ND @ KERNEL_DF)


def test_so_are_those_of_the_gradients():
    x_gradient_ND, kernel_gradient_DF = gradients(lambda x, k: product(x, k, jnp.bfloat16))
    assert x_gradient_ND.dtype == kernel_gradient_DF.dtype == jnp.float32
    assert is_close(x_gradient_ND, rounded(WEIGHT_NF) @ rounded(KERNEL_DF).T)
    assert is_close(kernel_gradient_DF, rounded(X_ND).T @ rounded(WEIGHT_NF))


def test_in_float32_it_is_the_plain_product():
    for one, other in zip(
        gradients(lambda x, k: product(x, k, jnp.float32)), gradients(jnp.dot), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


# 28 tokens are divided into equal parts, 27 cannot be, and 0 are none.
@pytest.mark.parametrize("rows", [N, N - 1, 0])
def test_outer_products_are_summed_whatever_the_number_of_rows(rows):
    x_ND, y_NF = jnp.asarray(X_ND[:rows], jnp.bfloat16), jnp.asarray(WEIGHT_NF[:rows], jnp.bfloat16)
    sum_DF = jax.jit(sum_of_outer_products)(x_ND, y_NF)
    assert sum_DF.dtype == jnp.float32
    assert is_close(sum_DF, rounded(X_ND[:rows]).T @ rounded(WEIGHT_NF[:rows]))


def test_heads_are_contracted_and_made_as_one_width(make_model, params_of, sentences):
    source_BS, target_BT = sentences([3, 5], 5), sentences([4, 2], 7)
    float32, bfloat16 = (
        make_model(product_dtype=dtype).apply(
            {"params": params_of(make_model())}, source_BS, target_BT
        )
        for dtype in (None, jnp.bfloat16)
    )
    assert bfloat16.dtype == jnp.float32
    assert is_close(bfloat16, float32, 0.02)
    assert not is_close(bfloat16, float32)


def test_a_model_without_a_type_for_products_has_flax_s_own(make_model):
    assert product_in(None) is None
    assert make_model().product_dtype is None


def test_many_models_may_be_mapped_over():
    x_MND, kernel_MDF = np.stack([X_ND, -X_ND]), np.stack([KERNEL_DF, 2 * KERNEL_DF])
    mapped = jax.vmap(jax.grad(lambda k, x: product(x, k, jnp.bfloat16).sum()))(kernel_MDF, x_MND)
    alone = jax.grad(lambda k, x: product(x, k, jnp.bfloat16).sum())(KERNEL_DF, X_ND)
    np.testing.assert_allclose(mapped, np.stack([alone, -alone]), rtol=1e-5)
