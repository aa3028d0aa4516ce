"""Matrix products with parameters: operands of a type of their own, and a gradient of our own.

The units for bfloat16 that today's processors have, CPUs too, are several times as fast as those
for float32. Operands are rounded to it and sums kept in float32, forwards and backwards, while
activations and parameters stay float32. In float32 nothing is rounded: only the layout of the
gradient's products is another than Flax's. There is no forward mode (`jax.jvp`).

Departs: the paper says nothing of number formats.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# Into how many parts a CPU divides the tokens of a kernel's gradient.
_PARTS = 4


def product_in(dtype: Any) -> Callable[..., jax.Array] | None:
    """Returns a dot_general for Flax's dense layers, or None, its default, where dtype is None."""
    if dtype is None:
        return None

    def dot_general(
        x: jax.Array,
        kernel: jax.Array,
        dimension_numbers: tuple[tuple[Sequence[int], Sequence[int]], Any],
        precision: Any = None,
        preferred_element_type: Any = None,
    ) -> jax.Array:
        """Contracts the last axes of x with the first ones of the kernel."""
        del precision, preferred_element_type
        (_, kernel_axes), _ = dimension_numbers
        split = len(kernel_axes)
        rows, columns = x.shape[: x.ndim - split], kernel.shape[split:]
        kernel_DF = kernel.reshape(math.prod(kernel.shape[:split]), math.prod(columns))
        out_NF = product(x.reshape(math.prod(rows), kernel_DF.shape[0]), kernel_DF, dtype)
        return out_NF.astype(x.dtype).reshape(*rows, *columns)

    return dot_general


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x_ND: jax.Array, kernel_DF: jax.Array, dtype: Any) -> jax.Array:
    """Returns x_ND kernel_DF, float32, of operands rounded to dtype; so are its gradients."""
    return jnp.dot(x_ND.astype(dtype), kernel_DF.astype(dtype), preferred_element_type=jnp.float32)


def _forward(
    x_ND: jax.Array, kernel_DF: jax.Array, dtype: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x_ND, kernel_DF, dtype), (x_ND, kernel_DF)


def _backward(
    dtype: Any, operands: tuple[jax.Array, jax.Array], gradient_NF: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_ND, kernel_DF = operands
    gradient_NF = gradient_NF.astype(dtype)
    x_gradient_ND = jnp.einsum(
        "nf,df->nd", gradient_NF, kernel_DF.astype(dtype), preferred_element_type=jnp.float32
    )
    kernel_gradient_DF = sum_of_outer_products(x_ND.astype(dtype), gradient_NF)
    return x_gradient_ND.astype(x_ND.dtype), kernel_gradient_DF.astype(kernel_DF.dtype)


product.defvjp(_forward, _backward)


def sum_of_outer_products(x_ND: jax.Array, y_NF: jax.Array) -> jax.Array:
    """Returns x_ND^T y_NF, float32."""
    if x_ND.shape[0] % _PARTS or x_ND.dtype == jnp.float32:
        return _contract_first(x_ND, y_NF)
    return jax.lax.platform_dependent(
        x_ND, y_NF, cpu=_contract_first_on_cpu, default=_contract_first
    )


def _contract_first(x_ND: jax.Array, y_NF: jax.Array) -> jax.Array:
    return jnp.einsum("nd,nf->df", x_ND, y_NF, preferred_element_type=jnp.float32)


def _contract_first_on_cpu(x_ND: jax.Array, y_NF: jax.Array) -> jax.Array:
    """`_contract_first` by parts, which alone makes XLA lay x out as the fast kernels want it.

    Without the loop it merges a transposition into the product, and falls back to float32.
    """

    def split(array: jax.Array) -> jax.Array:
        return array.reshape(_PARTS, array.shape[0] // _PARTS, array.shape[1])

    def add_part(total_DF: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x_DN, y_NF = part
        return total_DF + jnp.dot(x_DN, y_NF, preferred_element_type=jnp.float32), None

    zero_DF = jnp.zeros((x_ND.shape[1], y_NF.shape[1]), jnp.float32)
    return jax.lax.scan(add_part, zero_DF, (split(x_ND).swapaxes(1, 2), split(y_NF)))[0]
