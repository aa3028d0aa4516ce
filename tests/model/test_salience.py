"""How much attention each token receives."""

import jax
import numpy as np
import pytest

from jaxformer.model import salience

received, rolled_out = jax.jit(salience.received), jax.jit(salience.rolled_out)

LENGTHS = [7, 4, 1]
IS_TOKEN_BS = np.arange(7) < np.array(LENGTHS)[:, None]


def random_weights(seed):
    """Rows that sum to 1 over the tokens, those of padding as well."""
    weights_BHTS = np.random.default_rng(seed).random((3, 2, 7, 7)) ** 3
    weights_BHTS = np.where(IS_TOKEN_BS[:, None, None], weights_BHTS, 0)
    return (weights_BHTS / weights_BHTS.sum(axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def weights():
    return [random_weights(seed) for seed in range(3)]


def test_shares_sum_to_one_and_padding_has_none(weights):
    for share_BS in (received(weights[0], IS_TOKEN_BS), rolled_out(weights, IS_TOKEN_BS)):
        np.testing.assert_allclose(share_BS.sum(axis=1), 1, rtol=1e-5)
        assert not np.any(np.asarray(share_BS)[~IS_TOKEN_BS])


def test_received_is_a_mean_over_heads_and_tokens(weights):
    share_BS = received(weights[1], IS_TOKEN_BS)
    for row, length in enumerate(LENGTHS):
        for place in range(length):
            seen = [weights[1][row, head, t, place] for head in range(2) for t in range(length)]
            assert share_BS[row, place] == pytest.approx(np.mean(seen), rel=1e-5)


def test_rollout_multiplies_layers_with_the_residual(weights):
    share_BS = rolled_out(weights, IS_TOKEN_BS)
    for row, length in enumerate(LENGTHS):
        flow_SS = np.eye(7)
        for layer in weights:
            flow_SS = (0.5 * layer[row].mean(axis=0) + 0.5 * np.eye(7)) @ flow_SS
        np.testing.assert_allclose(share_BS[row], flow_SS[:length].mean(axis=0), atol=1e-6)


def test_a_token_that_all_look_at_has_most():
    weights_BHTS = np.zeros((3, 2, 7, 7), np.float32)
    weights_BHTS[..., 0] = 1
    np.testing.assert_allclose(received(weights_BHTS, IS_TOKEN_BS)[:, 0], 1)
    # Half of what a token is comes from itself, in each of two layers.
    share_BS = rolled_out([weights_BHTS] * 2, IS_TOKEN_BS)
    np.testing.assert_allclose(share_BS[0], [0.75 + 0.25 / 7] + 6 * [0.25 / 7], rtol=1e-5)
