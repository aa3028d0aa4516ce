"""The whole model: what each output may depend on, and what varies by argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.loss import cross_entropy_sums
from jaxformer.model import (
    BOS,
    EOS,
    PAD,
    Dropout,
    Learned,
    NoPositions,
    attention_weights,
    dot_product_attention,
    pre_norm,
    shift_right,
)
from jaxformer.model.transformer import segments
from tests.closeness import is_close

B, S, T = 5, 19, 13
SOURCE_LENGTHS = [19, 3, 7, 0, 11]
TARGET_LENGTHS = [13, 2, 5, 0, 8]


@pytest.fixture(scope="module")
def source_BS(sentences):
    return sentences(SOURCE_LENGTHS, S)


@pytest.fixture(scope="module")
def target_BT(sentences):
    return sentences(TARGET_LENGTHS, T, seed=1)


@pytest.fixture(scope="module")
def input_BT(target_BT):
    return np.asarray(shift_right(target_BT))


@pytest.fixture(scope="module")
def hidden(make_model, params_of, apply):
    """Returns the decoder's output of the small model, with changes."""

    def run(source_BS, input_BT, dropout=None, params=None, **changes):
        model = make_model(**changes)
        params = params or params_of(model)
        return np.asarray(apply(model, params, source_BS, input_BT, dropout, method="hidden"))

    return run


def test_a_target_token_changes_no_bit_before_it(hidden, source_BS, input_BT):
    before_BTD = hidden(source_BS, input_BT)
    for t in range(1, T):
        changed_BT = input_BT.copy()
        changed_BT[0, t] = 4 if input_BT[0, t] != 4 else 5
        after_BTD = hidden(source_BS, changed_BT)
        np.testing.assert_array_equal(after_BTD[:, :t], before_BTD[:, :t])
        assert np.all(np.any(after_BTD[0, t:] != before_BTD[0, t:], axis=-1))


@pytest.mark.parametrize("filler", [PAD, BOS, EOS, 23])
def test_what_stands_in_the_targets_padding_changes_no_bit(
    hidden, source_BS, target_BT, input_BT, filler
):
    before_BTD = hidden(source_BS, input_BT)
    after_BTD = hidden(source_BS, np.where(target_BT == PAD, filler, input_BT))
    is_real_BT = target_BT != PAD
    np.testing.assert_array_equal(after_BTD[is_real_BT], before_BTD[is_real_BT])


def test_the_embedding_of_padding_changes_no_bit(
    hidden, make_model, params_of, source_BS, target_BT, input_BT
):
    params = params_of(make_model())
    table_WD = params["embedding"]["table"].copy()
    table_WD[PAD] = 1e3
    after_BTD = hidden(source_BS, input_BT, params={**params, "embedding": {"table": table_WD}})
    is_real_BT = target_BT != PAD
    before_BTD = hidden(source_BS, input_BT)
    np.testing.assert_array_equal(after_BTD[is_real_BT], before_BTD[is_real_BT])


def test_rows_change_no_bit_of_one_another(hidden, source_BS, input_BT, sentences):
    others = [0, 2, 4]
    source, target = sentences(SOURCE_LENGTHS, S, seed=2), sentences(TARGET_LENGTHS, T, seed=3)
    source[[1, 3]], target[[1, 3]] = sentences([19, 17], S), sentences([13, 11], T)
    source[others], target[others] = source_BS[others], input_BT[others]
    before_BTD, after_BTD = hidden(source_BS, input_BT), hidden(source, target)
    np.testing.assert_array_equal(after_BTD[others], before_BTD[others])
    assert np.all(np.any(after_BTD[[1, 3]] != before_BTD[[1, 3]], axis=-1))


def test_more_padding_changes_nothing(hidden, source_BS, target_BT, input_BT):
    wide_BTD = hidden(
        np.pad(source_BS, ((0, 0), (0, 4))), shift_right(np.pad(target_BT, ((0, 0), (0, 4))))
    )
    is_real_BT = target_BT != PAD
    assert is_close(wide_BTD[:, :T][is_real_BT], hidden(source_BS, input_BT)[is_real_BT])


@pytest.fixture(scope="module")
def packed(sentences):
    """Returns rows of a batch: two sentences together, the first alone, the second alone."""

    def pack(width, first, second, seed):
        alone = sentences([0, first, second, 0, 1], width, seed)
        alone[0, :first], alone[0, first : first + second] = alone[1, :first], alone[2, :second]
        return alone

    return pack(S, 7, 8, seed=4), pack(T, 6, 5, seed=5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"residual": pre_norm, "positions": Learned}],
    ids=["post-norm, sinusoidal", "pre-norm, learned"],
)
def test_two_sentences_in_a_row_are_the_same_two_in_rows_of_their_own(hidden, packed, changes):
    source_BS, target_BT = packed
    hidden_BTD = hidden(source_BS, shift_right(target_BT), **changes)
    assert is_close(hidden_BTD[0, :6], hidden_BTD[1, :6])
    assert is_close(hidden_BTD[0, 6:11], hidden_BTD[2, :5])


def test_sentences_of_a_row_change_no_bit_of_one_another(hidden, packed):
    before_BTD = hidden(packed[0], shift_right(packed[1]))
    for sources, targets, others in (
        (slice(6), slice(5), slice(6, 11)),
        (slice(7, 14), slice(6, 10), slice(6)),
    ):
        source_BS, target_BT = packed[0].copy(), packed[1].copy()
        source_BS[0, sources], target_BT[0, targets] = 23, 29
        after_BTD = hidden(source_BS, shift_right(target_BT))
        np.testing.assert_array_equal(after_BTD[0, others], before_BTD[0, others])
        assert np.any(after_BTD[0, targets] != before_BTD[0, targets])


@pytest.fixture(scope="module")
def gradient(make_model, params_of):
    model = make_model()

    @jax.jit
    @jax.grad
    def run(params, source_BS, target_BT):
        logits_BTW = model.apply({"params": params}, source_BS, shift_right(target_BT))
        return cross_entropy_sums(logits_BTW, target_BT, 0.1, model.vocab_size).loss

    return lambda *batch: jax.tree.map(np.asarray, run(params_of(model), *batch))


def test_a_row_of_padding_is_finite(hidden, source_BS, input_BT):
    assert np.isfinite(hidden(source_BS, input_BT)).all()


def test_rows_of_padding_have_no_gradient(gradient):
    nothing = gradient(np.full((B, S), PAD, np.int32), np.full((B, T), PAD, np.int32))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(nothing))


def test_gradients_of_rows_add_up_beside_rows_of_padding(gradient, source_BS, target_BT):
    rows = np.arange(B)[:, None]
    first = gradient(np.where(rows < 2, source_BS, PAD), np.where(rows < 2, target_BT, PAD))
    rest = gradient(np.where(rows < 2, PAD, source_BS), np.where(rows < 2, PAD, target_BT))
    total = jax.tree.map(np.add, first, rest)
    # Keys have no bias here, whose true gradient is zero.
    assert all(jax.tree.leaves(jax.tree.map(is_close, total, gradient(source_BS, target_BT))))


def test_attention_weights_of_every_layer_and_head(make_model, params_of, source_BS, target_BT):
    model = make_model()
    weights = jax.jit(attention_weights, static_argnums=0)(
        model, params_of(model), source_BS, target_BT
    )
    shapes = {"encoder": (B, 2, S, S), "decoder": (B, 2, T, T), "cross": (B, 2, T, S)}
    assert {name: [w.shape for w in layers] for name, layers in weights.items()} == {
        name: [shape, shape] for name, shape in shapes.items()
    }
    for layers in weights.values():
        np.testing.assert_allclose(np.sum(layers, axis=-1), 1.0, rtol=1e-5)
    # Row 2 has 7 source tokens and 5 target tokens.
    for weights_BHTS in weights["encoder"] + weights["cross"]:
        assert np.all(weights_BHTS[2, :, :5, :7])
        assert not np.any(weights_BHTS[2, :, :5, 7:])
    for weights_BHTT in weights["decoder"]:
        np.testing.assert_array_equal(weights_BHTT[2, 0, :5] > 0, np.tri(5, T, dtype=bool))


def attend_without_weights(*arguments):
    return dot_product_attention(*arguments)[0], None


def test_weights_that_nobody_asks_for_cost_nothing(make_model, params_of, source_BS, input_BT):
    def program(model):
        run = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))
        return run.lower(params_of(model), source_BS, input_BT).as_text()

    assert program(make_model()) == program(make_model(attend=attend_without_weights))


def test_weights_that_attention_does_not_give_cannot_be_had(
    make_model, params_of, source_BS, target_BT
):
    model = make_model(attend=attend_without_weights)
    with pytest.raises(ValueError, match="attend_without_weights.* returns no weights"):
        jax.eval_shape(
            lambda params: attention_weights(model, params, source_BS, target_BT), params_of(model)
        )


def test_a_window_bounds_what_a_layer_sees(make_model, params_of, apply, source_BS):
    model = make_model(attention_window=2)
    changed_BS = source_BS.copy()
    changed_BS[0, 9] = 4 if source_BS[0, 9] != 4 else 5
    before_SD, after_SD = (
        np.asarray(apply(model, params_of(model), token_BS, method="encode"))[0]
        for token_BS in (source_BS, changed_BS)
    )
    # One neighbour on either side, in each of two layers.
    expected_S = np.abs(np.arange(S) - 9) <= 2
    np.testing.assert_array_equal(np.any(before_SD != after_SD, axis=-1), expected_S)


def test_a_window_bounds_neither_the_past_of_the_past_nor_the_source(hidden, source_BS, input_BT):
    def reached(source_BS, input_BT):
        after_TD = hidden(source_BS, input_BT, attention_window=2)[0]
        return np.any(after_TD != hidden(source_BS_before, input_before, attention_window=2)[0], -1)

    source_BS_before, input_before = source_BS, input_BT
    changed_BS, changed_BT = source_BS.copy(), input_BT.copy()
    changed_BS[0, 9] = 4 if source_BS[0, 9] != 4 else 5
    changed_BT[0, 4] = 4 if input_BT[0, 4] != 4 else 5
    # Cross-attention sees all of the source; one more position back in each of two layers.
    assert np.all(reached(changed_BS, input_BT))
    np.testing.assert_array_equal(reached(source_BS, changed_BT), np.isin(np.arange(T), [4, 5, 6]))


def test_without_positions_the_encoder_knows_no_order(make_model, params_of, apply, source_BS):
    model = make_model(positions=NoPositions)
    # EOS stays last.
    order = np.append(np.random.default_rng(0).permutation(S - 1), S - 1)
    memory_SD, permuted_SD = (
        np.asarray(apply(model, params_of(model), token_BS, method="encode"))[0]
        for token_BS in (source_BS, source_BS[:, order])
    )
    assert is_close(permuted_SD, memory_SD[order])


def test_bfloat16_is_near_float32(
    make_model, params_of, apply, hidden, source_BS, target_BT, input_BT
):
    model = make_model(dtype=jnp.bfloat16)
    params = params_of(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    logits_BTW = apply(model, params, source_BS, input_BT)
    assert logits_BTW.dtype == jnp.float32
    inner = [
        jax.eval_shape(model.bind({"params": params}).hidden, source_BS, input_BT),
        jax.eval_shape(model.bind({"params": params}).embedding.embed, source_BS),
    ]
    assert {array.dtype for array in inner} == {jnp.dtype("bfloat16")}
    exact_BTW = hidden(source_BS, input_BT) @ params["embedding"]["table"].T
    loss, exact_loss = (
        float(cross_entropy_sums(logits_BTW, target_BT, 0.1, model.vocab_size).loss)
        for logits_BTW in (logits_BTW, exact_BTW)
    )
    assert loss == pytest.approx(exact_loss, rel=0.02)
    assert loss != pytest.approx(exact_loss, rel=1e-5)


def test_every_place_has_a_dropout_of_its_own(
    make_model, params_of, source_BS, input_BT, monkeypatch
):
    words, shapes = [], []

    def record(self, x_BTD):
        words.append(jnp.stack([self.word_low, self.word_high]))
        shapes.append(x_BTD.shape)
        return x_BTD

    monkeypatch.setattr(Dropout, "__call__", record)
    model = make_model()

    @jax.jit
    def recorded(params):
        dropout = Dropout.create(jax.random.key(0), 0.1, jnp.arange(B))
        model.apply({"params": params}, source_BS, input_BT, dropout)
        return jnp.stack(words)

    distinct = {tuple(word) for word in np.asarray(recorded(params_of(model))).tolist()}
    # Embeddings, then two sub-layers in each of two layers, or three.
    assert shapes == [(B, S, 17)] * (1 + 2 * 2) + [(B, T, 17)] * (1 + 2 * 3)
    assert len(distinct) == len(words)


@pytest.mark.parametrize(
    "field",
    [
        *("vocab_size", "d_model", "d_ff", "num_heads", "d_k", "d_v", "vocab_multiple"),
        "attention_window",
    ],
)
def test_a_size_below_one_is_refused(make_model, source_BS, input_BT, field):
    model = make_model(**{field: 0})
    with pytest.raises(ValueError, match=f"{field}=0 is not a size"):
        jax.eval_shape(model.init, jax.random.key(0), source_BS, input_BT)


def test_shift_right_begins_every_sentence_anew():
    target_BT = np.array([[7, 8, EOS, 9, EOS, PAD, PAD], [PAD] * 7, [7, 8, 9, 10, 11, 12, EOS]])
    expected_BT = [
        [BOS, 7, 8, BOS, 9, BOS, PAD],
        [BOS, PAD, PAD, PAD, PAD, PAD, PAD],
        [BOS, 7, 8, 9, 10, 11, 12],
    ]
    np.testing.assert_array_equal(shift_right(target_BT), expected_BT)


def test_sentences_of_a_row_are_counted_and_measured():
    starts_BT = np.array([[1, 0, 0, 1, 0], [0, 0, 1, 1, 0]], bool)
    number_BT, position_BT = segments(starts_BT)
    np.testing.assert_array_equal(number_BT, [[0, 0, 0, 1, 1], [0, 0, 1, 2, 2]])
    np.testing.assert_array_equal(position_BT, [[0, 1, 2, 0, 1], [0, 1, 0, 0, 1]])
