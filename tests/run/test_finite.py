"""NaN is traced to the operation that makes it, within loops and gradients too."""

import jax
import jax.numpy as jnp
import pytest
from flax import struct

from jaxformer.run.finite import NotFinite, debugged, is_finite


@struct.dataclass
class State:
    """Stands for a TrainState."""

    step: jax.Array
    params: jax.Array


def forward(x):
    return jnp.log(x)


def backward(x):
    return jnp.where(x > 0, jnp.sqrt(x * x), 0.0)


def within_a_loop(x):
    return jax.lax.scan(lambda total, part: (total + jnp.log(part), None), 0.0, x)[0]


def make_step(function):
    def step(state, batch):
        loss, gradient = jax.value_and_grad(lambda params: jnp.sum(function(params * batch)))(
            state.params
        )
        params = state.params - gradient / 8
        return state.replace(step=state.step + 1, params=params), {"loss": loss}

    return jax.jit(step)


@pytest.mark.parametrize(
    ("function", "operation", "place"),
    [
        (forward, "log", "in forward: return jnp.log(x)"),
        (backward, "mul", "in step: loss, gradient = jax.value_and_grad("),
        (within_a_loop, "log", "in <lambda>: return jax.lax.scan(lambda total, part:"),
    ],
)
def test_the_operation_is_found(function, operation, place):
    batch = jnp.float32([2, 0]) if function is backward else jnp.float32([2, -1])
    step = debugged(make_step(function), "batch no. {}".format)
    state, _ = step(State(jnp.int32(6), jnp.ones(2)), jnp.float32([2, 1]))
    with pytest.raises(NotFinite) as raised:
        step(state, batch)
    first, *rest = str(raised.value).splitlines()
    assert first == f"Step 8 (batch no. 8) makes a NaN in `{operation}`:"
    assert 1 <= len(rest) <= 3
    assert place in rest[-1]
    assert __file__ in rest[-1]
    assert jax.config.jax_debug_nans is False


def test_infinite_and_nan_are_not_finite():
    tree = {"key": jax.random.key(0), "count": jnp.int32(3), "a": jnp.ones(3), "b": jnp.zeros(())}
    assert is_finite(tree)
    for value in (jnp.nan, jnp.inf, -jnp.inf):
        assert not is_finite({**tree, "a": jnp.ones(3).at[1].set(value)})
        assert not is_finite({**tree, "b": jnp.bfloat16(value)})
