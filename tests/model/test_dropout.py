"""The hash behind dropout: statistics held to bounds that jax.random meets too, and invariances."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import Dropout

B, T, D = 61, 67, 71
KEY = jax.random.key(7)
# In standard deviations. The draws are the same in every run, so that none fails by bad luck.
LIMIT = 4.5


@jax.jit
def drop(dropout, x_BTD):
    return dropout(x_BTD)


def make_dropout(key=KEY, rate=0.5, rows=B):
    return Dropout.create(key, rate, jnp.arange(rows))


def kept(dropout, length=T, width=D):
    """Returns the mask, True where an entry is kept."""
    ones_BTD = np.ones((len(dropout.row_B), length, width), np.float32)
    return np.asarray(drop(dropout, ones_BTD)) > 0


def kept_by_jax(rate=0.5):
    """Returns a mask of jax.random's."""
    return np.asarray(jax.random.bernoulli(KEY, 1 - rate, (B, T, D)))


def z_of_mean(x, mean, variance):
    return (np.mean(x) - mean) / np.sqrt(variance / np.size(x))


def z_of_scatter(x, mean, variance, fixed=0):
    """Whether x scatters about its mean as it should: chi-square, `fixed` degrees fewer."""
    degrees = np.size(x) - fixed
    return (np.sum((x - mean) ** 2 / variance) - degrees) / np.sqrt(2 * degrees)


def z_of_counts(mask, axis):
    """Whether the counts of kept entries along `axis` scatter as binomial ones do at rate 1/2."""
    return z_of_scatter(mask.sum(axis=axis), mask.shape[axis] / 2, mask.shape[axis] / 4)


def z_of_agreement(*masks):
    """Whether an even number of the masks agree as often as an odd number does, at rate 1/2."""
    return z_of_mean(np.prod([2.0 * mask - 1.0 for mask in masks], axis=0), 0.0, 1.0)


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.3, 0.5, 0.9])
def test_the_share_of_dropped_entries_is_the_rate(rate):
    for mask in (kept(make_dropout(rate=rate)), kept_by_jax(rate)):
        assert abs(z_of_mean(mask, 1 - rate, rate * (1 - rate))) < LIMIT


def test_draws_are_uniform():
    bins = 32
    ones_BTD = np.ones((B, T, D), np.float32)
    rates = jnp.arange(1, bins) / bins
    dropped_at = jax.jit(jax.vmap(lambda rate: make_dropout(rate=rate)(ones_BTD) == 0))(rates)
    draws = {
        "hash": np.asarray(dropped_at).sum(axis=0),
        "jax": np.asarray(jax.random.uniform(KEY, (B, T, D)) * bins).astype(int),
    }
    for draw_BTD in draws.values():
        counts = np.bincount(draw_BTD.ravel(), minlength=bins)
        expected = draw_BTD.size / bins
        assert abs(z_of_scatter(counts, expected, expected, fixed=1)) < LIMIT


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["rows", "positions", "features"])
def test_neighbours_along_an_axis_are_independent(axis):
    for mask in (kept(make_dropout()), kept_by_jax()):
        mask = np.moveaxis(mask, axis, 0)
        assert abs(z_of_counts(mask, axis=0)) < LIMIT
        for lag in (1, 2, 3, 4, 8, 16, 32):
            assert abs(z_of_agreement(mask[lag:], mask[:-lag])) < LIMIT


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_the_corners_of_rectangles_are_independent(axes):
    mask = np.moveaxis(kept(make_dropout()), axes, (0, 1))
    corners = mask[1:, 1:], mask[:-1, 1:], mask[1:, :-1], mask[:-1, :-1]
    assert abs(z_of_agreement(*corners)) < LIMIT


SEQUENCES = {
    "steps": lambda number: make_dropout(jax.random.fold_in(KEY, number), rows=2),
    "layers": lambda number: make_dropout(rows=2).fold(number),
    "layers of a sub-layer": lambda number: make_dropout(rows=2).fold(number).fold("attention"),
    "low words": lambda number: make_dropout(rows=2).replace(word_low=number),
    # Apart by more than a feature's number, with which the word is mixed.
    "high words": lambda number: make_dropout(rows=2).replace(word_high=number << 8),
    "folded high words": lambda number: make_dropout(rows=2).replace(word_high=number).fold(0),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_successive_masks_are_independent(name):
    ones_BTD = np.ones((2, 5, 7), np.float32)
    masks = jax.jit(jax.vmap(lambda number: SEQUENCES[name](number)(ones_BTD) > 0))
    mask_NBTD = np.asarray(masks(jnp.arange(4099, dtype=jnp.uint32)))
    assert abs(z_of_mean(mask_NBTD, 0.5, 0.25)) < LIMIT
    assert abs(z_of_counts(mask_NBTD, axis=0)) < LIMIT
    for lag in (1, 2, 3, 4, 8, 16, 32):
        assert abs(z_of_agreement(mask_NBTD[lag:], mask_NBTD[:-lag])) < LIMIT


def test_places_of_other_names_are_independent():
    places = ("embedding", "attention", "cross_attention", "feed_forward", "encoder", "decoder")
    masks = [kept(make_dropout().fold(place)) for place in places]
    for one, other in itertools.combinations(masks, 2):
        assert abs(z_of_agreement(one, other)) < LIMIT


def test_rate_zero_is_the_identity():
    x_BTD = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
    np.testing.assert_array_equal(drop(make_dropout(rate=0.0), x_BTD), x_BTD)


def test_kept_entries_are_scaled_by_the_share_of_kept_ones():
    x_BTD = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
    dropout = make_dropout(rate=0.3)
    expected_BTD = np.where(kept(dropout), x_BTD / 0.7, 0.0)
    np.testing.assert_allclose(drop(dropout, x_BTD), expected_BTD, rtol=1e-6)


def test_a_row_has_its_mask_however_the_batch_is_split():
    dropout = make_dropout(rows=4)
    parts = [kept(dropout.replace(row_B=dropout.row_B[rows])) for rows in (slice(2), slice(2, 4))]
    np.testing.assert_array_equal(np.concatenate(parts), kept(dropout))


def test_a_position_has_its_mask_whatever_the_padding():
    dropout = make_dropout(rows=4)
    np.testing.assert_array_equal(kept(dropout, length=11), kept(dropout)[:, :11])


def test_raw_keys_are_as_good_as_typed_ones():
    raw = make_dropout(jax.random.key_data(KEY))
    np.testing.assert_array_equal(kept(raw), kept(make_dropout()))


def test_another_rate_needs_no_other_program():
    traced = []

    @jax.jit
    def dropped(key, rate):
        traced.append(rate)
        return jnp.mean(Dropout.create(key, rate, jnp.arange(B))(jnp.ones((B, T, D))) == 0)

    shares = [float(dropped(KEY, rate)) for rate in (0.1, 0.3)]
    assert len(traced) == 1
    np.testing.assert_allclose(shares, [0.1, 0.3], atol=0.01)


def test_a_traced_number_gives_the_masks_of_a_known_one():
    dropout = make_dropout(rows=5).fold("encoder")
    ones_BTD = np.ones((5, T, D), np.float32)
    traced = jax.jit(lambda number: dropout.fold(number)(ones_BTD))
    for number in (0, 1, 5):
        np.testing.assert_array_equal(traced(number) > 0, kept(dropout.fold(number)))
