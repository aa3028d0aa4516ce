"""Silencing a head, and the entropy of its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model import (
    PAD,
    Head,
    attention_weights,
    entropy_sums,
    heads_of,
    shift_right,
    silence_head,
)
from jaxformer.model.attention import dot_product_attention

LENGTHS = ([5, 3, 0], [4, 6, 0])


@pytest.fixture(scope="module")
def rows(sentences):
    return sentences(LENGTHS[0], 7), sentences(LENGTHS[1], 8, seed=1)


def silent(kind, number, widths):
    """An attention that gives zero for one head, told apart by the widths of its sides."""

    def attend(query_BTHK, key_BSHK, value_BSHV, mask, positions):
        out_BTHV, weights_BHTS = dot_product_attention(
            query_BTHK, key_BSHK, value_BSHV, mask, positions
        )
        if (query_BTHK.shape[1], key_BSHK.shape[1]) == widths[kind]:
            out_BTHV = out_BTHV.at[:, :, number].set(0)
        return out_BTHV, weights_BHTS

    return attend


@pytest.mark.parametrize(
    ("kind", "bias"), [("encoder", False), ("decoder", False), ("cross", True)]
)
def test_a_silenced_head_gives_zero(make_model, params_of, apply, rows, kind, bias):
    source_BS, target_BT = rows
    widths = {"encoder": (7, 7), "decoder": (8, 8), "cross": (8, 7)}
    model = make_model(num_encoder_layers=1, num_decoder_layers=1, attention_bias=bias)
    params = params_of(model)
    inputs = source_BS, shift_right(target_BT)
    found = apply(model, silence_head(params, Head(kind, 0, 1)), *inputs)
    expected = apply(model.clone(attend=silent(kind, 1, widths)), params, *inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found - apply(model, params, *inputs)).max() > 1e-2


def test_only_the_one_head_changes(make_model, params_of):
    model = make_model()
    params = params_of(model)
    kernels = {}
    for head in heads_of(model):
        changed = silence_head(params, head)
        assert jax.tree.structure(changed) == jax.tree.structure(params)
        differ = [
            (jax.tree_util.keystr(path), np.flatnonzero(np.any(new != old, axis=(1, 2))).tolist())
            for (path, new), old in zip(
                jax.tree_util.tree_leaves_with_path(changed), jax.tree.leaves(params), strict=True
            )
            if not np.array_equal(new, old)
        ]
        ((path, numbers),) = differ
        assert numbers == [head.number]
        assert path.endswith("['out']['kernel']")
        kernels.setdefault(path, []).append(head)
    # Two layers of each kind, two heads in each.
    assert [len(heads) for heads in kernels.values()] == [2] * 6
    first, *_, last = kernels
    assert first == "['encoder']['layer_0']['attention']['out']['kernel']"
    assert last == "['decoder']['layer_1']['cross_attention']['out']['kernel']"


@pytest.mark.parametrize("place", [("self", 0, 0), ("cross", 2, 0), ("encoder", 0, 2), ("", 0, -1)])
def test_a_head_that_is_not_there_is_told(make_model, params_of, place):
    with pytest.raises(ValueError, match=r"Head\(.* is not in these parameters"):
        silence_head(params_of(make_model()), Head(*place))


def jitted(function, model):
    return jax.jit(lambda params, *rows: function(model, params, *rows))


def test_entropy_is_that_of_the_weights_of_tokens(make_model, params_of, rows):
    model = make_model()
    params = params_of(model)
    found = jitted(entropy_sums, model)(params, *rows)
    weights = jitted(attention_weights, model)(params, *rows)
    assert set(found) == {"encoder", "decoder", "cross"}
    for kind, (sum_LH, count) in found.items():
        lengths = LENGTHS[0] if kind == "encoder" else LENGTHS[1]
        assert int(count) == sum(lengths)
        for layer, weights_BHTS in enumerate(np.asarray(each) for each in weights[kind]):
            for head in range(2):
                expected = 0.0
                for row, length in enumerate(lengths):
                    for weights_S in weights_BHTS[row, head, :length]:
                        expected -= sum(w * np.log(w) for w in weights_S.tolist() if w > 0)
                assert float(sum_LH[layer, head]) == pytest.approx(expected, rel=1e-5)


def test_even_weights_have_the_log_of_their_number(make_model, params_of):
    def even(query_BTHK, key_BSHK, value_BSHV, mask, positions):
        return dot_product_attention(0 * query_BTHK, key_BSHK, value_BSHV, mask, positions)

    model = make_model(attend=even)
    source_BS = jnp.array([[9, 8, 7, 6, 2, PAD]])
    target_BT = jnp.array([[5, 6, 2, PAD]])
    sums = jitted(entropy_sums, model)(params_of(model), source_BS, target_BT)
    means = {kind: np.asarray(sum_LH / count) for kind, (sum_LH, count) in sums.items()}
    np.testing.assert_allclose(means["encoder"], np.log(5), rtol=1e-5)
    np.testing.assert_allclose(means["cross"], np.log(5), rtol=1e-5)
    # Of one, two and three positions.
    np.testing.assert_allclose(means["decoder"], np.log([1, 2, 3]).mean(), rtol=1e-5)
