"""Sinusoids against section 3.5's formula, learned positions, and none at all."""

import math

import numpy as np
import pytest

from jaxformer.model import Learned, NoPositions, Sinusoidal

B, T, D, LENGTH = 5, 13, 17, 19


@pytest.fixture
def position_BT():
    """Any order, any gaps, beyond any table."""
    return np.random.default_rng(0).integers(0, 509, (B, T)).astype(np.int32)


@pytest.mark.parametrize("width", [D, D + 1])
def test_sinusoids(apply, position_BT, width):
    encoding_BTD = apply(Sinusoidal(width, LENGTH), {}, position_BT)
    assert encoding_BTD.shape == (B, T, width)
    for b, t, d in np.ndindex(B, T, width):
        angle = position_BT[b, t] / 10000 ** (2 * (d // 2) / width)
        expected = math.cos(angle) if d % 2 else math.sin(angle)
        assert encoding_BTD[b, t, d] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("is_scaled", [True, False])
def test_learned_positions_are_rows_of_a_table(apply, make_params, position_BT, is_scaled):
    position_BT = position_BT % LENGTH
    module = Learned(D, LENGTH, is_scaled=is_scaled)
    params = make_params(module, position_BT)
    assert params["table"].shape == (LENGTH, D)
    expected_BTD = params["table"][position_BT] * (math.sqrt(D) if is_scaled else 1)
    np.testing.assert_allclose(apply(module, params, position_BT), expected_BTD, rtol=1e-6)


def test_a_position_past_the_learned_ones_is_the_last(apply, make_params):
    module = Learned(D, LENGTH)
    position_11 = np.array([[LENGTH - 1]], np.int32)
    params = make_params(module, position_11)
    past = apply(module, params, position_11 + 5)
    np.testing.assert_array_equal(past, apply(module, params, position_11))


def test_no_positions_add_nothing(apply, position_BT):
    x_BTD = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
    np.testing.assert_array_equal(x_BTD + apply(NoPositions(D, LENGTH), {}, position_BT), x_BTD)
