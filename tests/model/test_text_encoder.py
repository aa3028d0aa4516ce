"""An encoder alone: what changes its output, what must not, and its pooling."""

import jax
import numpy as np
import pytest

from jaxformer.model.text_encoder import TextEncoder, hidden_and_weights, pool

SIZES = {"vocab_size": 41, "d_model": 14, "d_ff": 23, "num_heads": 2, "num_layers": 3}
TOKEN_BS = np.random.default_rng(0).integers(1, 41, (5, 11)).astype(np.int32)
IS_TOKEN_BS = np.arange(11) < np.array([11, 7, 1, 3, 0])[:, None]


@pytest.fixture(scope="module")
def model():
    return TextEncoder(**SIZES, max_length=13)


@pytest.fixture(scope="module")
def params(model, make_params):
    return make_params(model, TOKEN_BS, IS_TOKEN_BS)


def test_padding_changes_nothing(model, params, apply):
    hidden_BSD = apply(model, params, TOKEN_BS, IS_TOKEN_BS)
    other_BS = np.where(IS_TOKEN_BS, TOKEN_BS, 40 - TOKEN_BS)
    other_BSD = apply(model, params, other_BS, IS_TOKEN_BS)
    np.testing.assert_array_equal(hidden_BSD[IS_TOKEN_BS], other_BSD[IS_TOKEN_BS])
    alone_BSD = apply(model, params, TOKEN_BS[1:2, :7], IS_TOKEN_BS[1:2, :7])
    np.testing.assert_allclose(hidden_BSD[1, :7], alone_BSD[0], atol=1e-5)


def test_every_token_sees_every_other(model, params, apply):
    hidden_BSD = apply(model, params, TOKEN_BS, IS_TOKEN_BS)
    for place in (0, 10):
        other_BS = TOKEN_BS.copy()
        other_BS[0, place] = 41 - other_BS[0, place]
        change_SD = np.abs(apply(model, params, other_BS, IS_TOKEN_BS) - hidden_BSD)[0]
        assert change_SD.max(axis=1).min() > 1e-4


def test_order_and_kind_count(model, params, apply):
    hidden_BSD = apply(model, params, TOKEN_BS, IS_TOKEN_BS)
    turned_BSD = apply(model, params, TOKEN_BS[:, ::-1], IS_TOKEN_BS)[:, ::-1]
    kind_BSD = apply(model, params, TOKEN_BS, IS_TOKEN_BS, np.ones_like(TOKEN_BS))
    for other_BSD in (turned_BSD, kind_BSD):
        assert np.abs(other_BSD - hidden_BSD)[0].max() > 1e-2


def test_one_kind_of_text_needs_no_table(make_params):
    model = TextEncoder(**SIZES, num_types=0)
    assert "type" not in make_params(model, TOKEN_BS, IS_TOKEN_BS)


def test_the_number_of_parameters(params):
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    attention = 4 * (14 * 14 + 14)
    layer = attention + 2 * 14 * 23 + 23 + 14 + 2 * 2 * 14
    assert count == (41 + 13 + 2) * 14 + 2 * 14 + 3 * layer


def test_weights_of_all_layers_are_given(model, params):
    hidden_BSD, weights = jax.jit(hidden_and_weights, static_argnums=0)(
        model, params, TOKEN_BS, IS_TOKEN_BS
    )
    assert hidden_BSD.shape == (5, 11, 14)
    assert [each.shape for each in weights] == [(5, 2, 11, 11)] * 3
    np.testing.assert_allclose(np.sum(weights[2], axis=-1), 1, rtol=1e-5)
    assert np.abs(weights[0] - weights[2]).max() > 1e-3


def test_an_attention_without_weights_is_told(make_params):
    def silent(query_BTHK, key_BSHK, value_BSHV, mask, positions):
        return query_BTHK, None

    model = TextEncoder(**SIZES, attend=silent)
    params = make_params(model, TOKEN_BS, IS_TOKEN_BS)
    with pytest.raises(ValueError, match="returns no weights"):
        jax.eval_shape(
            lambda: hidden_and_weights(model, params, TOKEN_BS, IS_TOKEN_BS),
        )


def test_heads_must_divide_the_width(make_params):
    with pytest.raises(ValueError, match="d_model=14 is not divisible by num_heads=3"):
        make_params(TextEncoder(**{**SIZES, "num_heads": 3}), TOKEN_BS, IS_TOKEN_BS)


def test_pooling_is_the_mean_of_what_is_chosen():
    hidden_BSD = np.random.default_rng(1).normal(size=(5, 11, 14)).astype(np.float32)
    found_BD = jax.jit(pool)(hidden_BSD, IS_TOKEN_BS)
    for row, length in enumerate([11, 7, 1, 3]):
        mean_D = hidden_BSD[row, :length].mean(axis=0)
        np.testing.assert_allclose(found_BD[row], mean_D / np.linalg.norm(mean_D), rtol=1e-5)
    assert not np.any(found_BD[4])
