"""Eq. 3 against its formula, Adam against a loop, and clipping."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxformer.optim import (
    cooldown_rate,
    linear_rate,
    noam_rate,
    noam_schedule,
    paper_adam,
    scale_by_paper_adam,
)


def equation_3(step, d_model, warmup_steps):
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


@pytest.mark.parametrize(("d_model", "warmup_steps"), [(512, 4000), (17, 101), (1024, 1)])
def test_equation_3(d_model, warmup_steps):
    for step in (1, 2, 100, 101, 102, 3999, 4000, 4001, 100_000):
        rate = noam_rate(step, d_model=d_model, warmup_steps=warmup_steps)
        assert rate.dtype == jnp.float32
        assert float(rate) == pytest.approx(equation_3(step, d_model, warmup_steps), rel=1e-5)


def test_base_peaks_at_step_4000():
    # 512^-0.5 * 4000^-0.5
    rates = noam_rate(jnp.arange(1, 100_001), d_model=512, warmup_steps=4000)
    assert int(jnp.argmax(rates)) + 1 == 4000
    assert float(rates[3999]) == pytest.approx(6.987712e-4, rel=1e-6)


def test_the_schedule_counts_steps_from_zero_as_optax_does():
    schedule = noam_schedule(d_model=17, warmup_steps=101, factor=3.0)
    for step in (0, 100, 5000):
        assert float(schedule(step)) == pytest.approx(3 * equation_3(step + 1, 17, 101), rel=1e-5)


def test_no_warm_up_is_refused():
    with pytest.raises(ValueError, match="warmup_steps=0 .* Set it to 1 or more"):
        noam_schedule(d_model=17, warmup_steps=0)


def test_the_linear_rate_warms_up_as_equation_3_does():
    for step in (1, 50, 101):
        rate = linear_rate(step, d_model=17, warmup_steps=101, num_steps=1009)
        assert float(rate) == pytest.approx(equation_3(step, 17, 101), rel=1e-5)


@pytest.mark.parametrize(
    ("rate", "begin", "num_steps"), [(linear_rate, 101, 1009), (cooldown_rate, 800, 1000)]
)
def test_a_rate_that_ends_with_the_run_falls_evenly_to_zero_after_the_last_step(
    rate, begin, num_steps
):
    steps = jnp.arange(begin, num_steps + 3)
    rates = rate(steps, d_model=17, warmup_steps=101, num_steps=num_steps)
    expected = np.linspace(equation_3(begin, 17, 101), 0.0, num_steps + 2 - begin)
    np.testing.assert_allclose(rates[:-1], expected, rtol=0, atol=1e-8)
    assert rates[-3] > 0
    assert rates[-2] == rates[-1] == 0


def test_the_cooldown_is_equation_3_for_four_fifths_of_the_run():
    for step in (1, 50, 101, 102, 800):
        rate = cooldown_rate(step, d_model=17, warmup_steps=101, num_steps=1000)
        assert float(rate) == float(noam_rate(step, d_model=17, warmup_steps=101))


def test_a_cooldown_that_begins_within_the_warm_up_falls_from_the_rate_there():
    rates = cooldown_rate(jnp.arange(1, 12), d_model=17, warmup_steps=101, num_steps=10)
    assert int(jnp.argmax(rates)) + 1 == 8
    assert float(rates[7]) == pytest.approx(equation_3(8, 17, 101), rel=1e-5)
    assert rates[10] == 0


GRADIENTS = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)


def adam_loop(gradients, beta1=0.9, beta2=0.98, epsilon=1e-9):
    """Yields Adam's direction at each step, as in the paper that introduced it, in float64."""
    mean, square = np.zeros(gradients[0].shape), np.zeros(gradients[0].shape)
    for step, gradient in enumerate(gradients.astype(np.float64), start=1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        mean_hat, square_hat = mean / (1 - beta1**step), square / (1 - beta2**step)
        yield mean_hat / (np.sqrt(square_hat) + epsilon)


def directions(optimizer, gradients):
    state = optimizer.init(jnp.zeros(gradients[0].shape))
    for gradient in gradients:
        direction, state = optimizer.update(jnp.asarray(gradient), state)
        yield direction


@pytest.mark.parametrize(
    ("arguments", "scale"),
    # Gradients as small as epsilon tell where it stands.
    [({}, 1.0), ({}, 1e-9), ({"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}, 1.0)],
)
def test_adam(arguments, scale):
    gradients = GRADIENTS * scale
    found = directions(scale_by_paper_adam(**arguments), gradients)
    for direction, expected in zip(found, adam_loop(gradients, **arguments), strict=True):
        np.testing.assert_allclose(direction, expected, rtol=1e-4)


def test_the_papers_optimiser():
    params = jnp.zeros(GRADIENTS[0].shape)
    optimizer = paper_adam(d_model=17, warmup_steps=5, factor=3.0)
    state, expected = optimizer.init(params), np.zeros(params.shape)
    steps = enumerate(zip(GRADIENTS, adam_loop(GRADIENTS), strict=True), start=1)
    for step, (gradient, direction) in steps:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        expected -= 3 * equation_3(step, 17, 5) * direction
    np.testing.assert_allclose(params, expected, rtol=1e-4, atol=1e-6)


def test_clipping_is_by_the_norm_of_all_gradients_together():
    large = {"one": jnp.full((3, 4), 2.0), "other": jnp.full((5,), -3.0)}
    norm = math.sqrt(12 * 4 + 5 * 9)
    clipped = scale_by_paper_adam(clip_norm=0.5)
    _, state = clipped.update(large, clipped.init(large))
    mean = optax.tree.get(state, "mu")
    # Adam's first mean is a tenth of the gradient.
    np.testing.assert_allclose(mean["one"], 0.1 * 2.0 * 0.5 / norm, rtol=1e-5)
    np.testing.assert_allclose(mean["other"], 0.1 * -3.0 * 0.5 / norm, rtol=1e-5)


def test_weight_decay_adds_to_the_direction_and_is_neither_scaled_nor_clipped():
    params = {"kernel": jnp.full((2, 3), 50.0), "bias": jnp.full((3,), -20.0)}
    gradients = jax.tree.map(jnp.ones_like, params)
    plain, decayed = (
        scale_by_paper_adam(clip_norm=0.5, weight_decay=decay) for decay in (0.0, 0.1)
    )
    direction, _ = plain.update(gradients, plain.init(params), params)
    found, _ = decayed.update(gradients, decayed.init(params), params)
    np.testing.assert_allclose(found["kernel"], direction["kernel"] + 5.0, rtol=1e-6)
    np.testing.assert_allclose(found["bias"], direction["bias"] - 2.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["clip_norm", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_what_would_be_no_norm_and_no_decay_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name}={value} is out of range\. Set it to 0 or"):
        scale_by_paper_adam(**{name: value})


def test_gradients_below_the_norm_are_not_clipped():
    clipped = scale_by_paper_adam(clip_norm=1e3)
    for one, other in zip(
        directions(clipped, GRADIENTS), directions(scale_by_paper_adam(), GRADIENTS), strict=True
    ):
        np.testing.assert_array_equal(one, other)
