"""The training step: one update whatever the parts, one key, and learning at all."""

import functools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxformer.loss import cross_entropy_sums
from jaxformer.model import EOS, PAD, Transformer, shift_right
from jaxformer.optim import noam_rate, scale_by_paper_adam
from jaxformer.train import (
    Hyper,
    average,
    init_state,
    make_eval_step,
    make_train_step,
    skip_not_finite,
)

MODEL = Transformer(
    vocab_size=41,
    d_model=18,
    d_ff=23,
    num_heads=2,
    d_k=7,
    d_v=11,
    # A step takes long to compile.
    num_encoder_layers=1,
    num_decoder_layers=1,
    vocab_multiple=16,
)


def rows(lengths, width, seed):
    """Returns rows of random words, EOS, PAD; a length counts the EOS."""
    token_BT = np.random.default_rng(seed).integers(4, 41, (len(lengths), width)).astype(np.int32)
    place_T, length_B1 = np.arange(width), np.array(lengths)[:, None]
    return np.where(
        place_T < length_B1 - 1, token_BT, np.where(place_T == length_B1 - 1, EOS, PAD)
    ).astype(np.int32)


# Each quarter has another number of tokens, and one has none.
BATCH = {
    "source_BS": rows([13, 11, 3, 2, 7, 5, 0, 0], 13, seed=0),
    "target_BT": rows([11, 9, 2, 3, 5, 8, 0, 0], 11, seed=1),
}


def keep_gradients(inner):
    """Returns the optimiser whose state is (inner state, last gradients)."""

    def update(gradients, state, params=None):
        direction, inner_state = inner.update(gradients, state[0], params)
        return direction, (inner_state, gradients)

    return optax.GradientTransformation(lambda params: (inner.init(params), params), update)


OPTIMIZER = keep_gradients(scale_by_paper_adam())


def rate(step, hyper):
    return hyper.learning_rate * noam_rate(step, d_model=18, warmup_steps=hyper.warmup_steps)


@functools.cache
def train_step(accumulate=1):
    return jax.jit(make_train_step(MODEL, OPTIMIZER, rate, accumulate=accumulate))


@functools.cache
def first_state(seed=0):
    return init_state(MODEL, OPTIMIZER, Hyper.create(), seed)


def state_with(step=0, **hyper):
    return first_state().replace(hyper=Hyper.create(**hyper), step=jnp.asarray(step, jnp.int32))


def arrays(tree):
    return [
        np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        for leaf in jax.tree.leaves(tree)
    ]


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_same(one, other):
    return all(map(np.array_equal, arrays(one), arrays(other)))


def is_close(one, other, tolerance):
    """Relative L2, tensor by tensor."""
    return all(
        np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)
        for a, b in zip(arrays(one), arrays(other), strict=True)
    )


def test_the_first_state_is_a_function_of_the_seed():
    again = init_state(MODEL, OPTIMIZER, Hyper.create(), seed=0)
    assert is_same(again, first_state())
    other = init_state(MODEL, OPTIMIZER, Hyper.create(), seed=1)
    assert not is_same(other.key, again.key)
    assert not is_same(other.params, again.params)
    assert int(again.step) == 0


def test_parameters_are_float32():
    assert {leaf.dtype for leaf in jax.tree.leaves(first_state().params)} == {np.dtype("float32")}


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_a_batch_give_the_update_of_the_whole(accumulate):
    whole, parts = state_with(dropout_rate=0.3), state_with(dropout_rate=0.3)
    for _ in range(2):
        whole, whole_metrics = train_step()(whole, BATCH)
        parts, parts_metrics = train_step(accumulate)(parts, BATCH)
        _, whole_gradients = whole.opt_state
        _, parts_gradients = parts.opt_state
        assert is_close(parts_gradients, whole_gradients, 1e-5)
        assert is_close(parts.params, whole.params, 1e-4)
        assert is_close(parts_metrics, whole_metrics, 1e-5)


def test_a_batch_that_cannot_be_parted_is_refused():
    with pytest.raises(ValueError, match="8 rows cannot be worked off in 3 equal parts"):
        jax.eval_shape(make_train_step(MODEL, OPTIMIZER, rate, accumulate=3), first_state(), BATCH)


def test_the_same_state_and_batch_give_the_same_bits():
    state = state_with(step=7)
    assert is_same(train_step()(state, BATCH), train_step()(state, BATCH))


def test_every_step_draws_other_masks():
    _, metrics = train_step()(state_with(step=7), BATCH)
    _, next_metrics = train_step()(state_with(step=8), BATCH)
    _, plain_metrics = train_step()(state_with(step=7, dropout_rate=0.0), BATCH)
    _, next_plain_metrics = train_step()(state_with(step=8, dropout_rate=0.0), BATCH)
    assert metrics["nll"] != next_metrics["nll"]
    assert plain_metrics["nll"] == next_plain_metrics["nll"] != metrics["nll"]


def test_another_key_draws_other_masks():
    state = state_with()
    _, metrics = train_step()(state, BATCH)
    _, other_metrics = train_step()(state.replace(key=jax.random.key(1)), BATCH)
    assert metrics["nll"] != other_metrics["nll"]


def test_hyperparameters_need_no_other_program():
    step = train_step()
    step(state_with(), BATCH)
    programs = step._cache_size()
    hyper = {"dropout_rate": 0.2, "label_smoothing": 0.0, "learning_rate": 2.0, "warmup_steps": 9}
    step(state_with(**hyper), BATCH)
    assert step._cache_size() == programs


@functools.cache
def explicit():
    """Returns sums, and gradients of the mean loss, from whole logits, smoothed by 0.1."""

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def run(params):
        inputs = BATCH["source_BS"], shift_right(BATCH["target_BT"])
        logits_BTW = MODEL.apply({"params": params}, *inputs)
        sums = cross_entropy_sums(logits_BTW, BATCH["target_BT"], 0.1, MODEL.vocab_size)
        return sums.loss / sums.tokens, sums

    gradients, sums = run(first_state().params)
    return sums, gradients


def test_gradients_are_those_of_the_mean_loss_a_target_token():
    new_state, _ = train_step()(state_with(dropout_rate=0.0), BATCH)
    _, gradients = explicit()
    assert is_close(new_state.opt_state[1], gradients, 1e-5)


def test_metrics():
    state = state_with(step=7, dropout_rate=0.0, warmup_steps=101, learning_rate=3.0)
    new_state, metrics = train_step()(state, BATCH)
    sums, gradients = explicit()
    source_tokens, target_tokens = 41, 38
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(
        {
            "loss": float(sums.loss) / target_tokens,
            "nll": float(sums.nll) / target_tokens,
            "source_tokens": source_tokens,
            "target_tokens": target_tokens,
            # Steps count from 1.
            "learning_rate": 3 * 18**-0.5 * 8 * 101**-1.5,
            "grad_norm": np.sqrt(sum(np.sum(gradient**2) for gradient in arrays(gradients))),
        },
        rel=1e-5,
    )
    assert int(new_state.step) == 8


def test_the_update_is_the_rate_times_the_optimisers_direction():
    state = state_with(warmup_steps=1, learning_rate=3.0)
    new_state, metrics = train_step()(state, BATCH)
    direction, _ = jax.jit(OPTIMIZER.update)(new_state.opt_state[1], state.opt_state)
    learning_rate = float(metrics["learning_rate"])
    expected = jax.tree.map(lambda p, d: p - learning_rate * d, state.params, direction)
    assert is_close(new_state.params, expected, 1e-5)


def test_evaluation_is_unsmoothed_and_without_dropout():
    sums = jax.jit(make_eval_step(MODEL))(first_state().params, BATCH)
    expected, _ = explicit()
    for name in ("nll", "correct", "tokens"):
        assert float(getattr(sums, name)) == pytest.approx(float(getattr(expected, name)), rel=1e-5)
    assert float(sums.loss) == pytest.approx(float(sums.nll), rel=1e-6)


def test_a_batch_of_padding_is_finite_and_moves_nothing():
    nothing = jax.tree.map(np.zeros_like, BATCH)
    state, metrics = train_step()(state_with(), nothing)
    assert is_same(state.params, first_state().params)
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_handful_of_pairs_is_learnt_by_heart():
    state = state_with(dropout_rate=0.0, label_smoothing=0.0, learning_rate=0.5, warmup_steps=50)
    for _ in range(250):
        state, metrics = train_step()(state, BATCH)
    assert metrics["nll"] < 0.05
    # Rows that pad the vocabulary are still as they were.
    table_WD = np.asarray(state.params["embedding"]["table"])
    assert table_WD.shape == (48, 18)
    assert not table_WD[41:].any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout_rate", 1.0),
        ("dropout_rate", -0.1),
        ("dropout_rate", float("nan")),
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("learning_rate", 0.0),
        ("warmup_steps", 0),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value} .* Set it"):
        Hyper.create(**{name: value})


@functools.cache
def skipping_step():
    return jax.jit(skip_not_finite(make_train_step(MODEL, OPTIMIZER, rate)))


def test_a_step_that_is_finite_is_not_left_out():
    before = state_with(step=3)
    state, metrics = skipping_step()(before, BATCH)
    assert metrics.pop("skipped") == 0
    expected, expected_metrics = train_step()(before, BATCH)
    assert metrics.keys() == expected_metrics.keys()
    for got, wanted in zip(arrays(state), arrays(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("what", ["parameter", "learning rate"])
def test_a_step_that_is_not_finite_changes_only_the_step(what):
    before = state_with(step=3)
    if what == "parameter":
        table = before.params["embedding"]["table"].at[7, 2].set(jnp.inf)
        before = before.replace(params={**before.params, "embedding": {"table": table}})
    else:
        hyper = before.hyper.replace(learning_rate=jnp.float32(jnp.nan))
        before = before.replace(hyper=hyper)
    state, metrics = skipping_step()(before, BATCH)
    assert metrics["skipped"] == 1
    assert state.step == 4
    for got, wanted in zip(arrays(state), arrays(before.replace(step=state.step)), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_the_average_of_checkpoints_is_their_mean():
    trees = [{"a": np.float32([1, 2]), "b": {"c": np.float32([[x]])}} for x in (3, 4, 8)]
    trees[1]["a"] = np.float32([4, 8])
    mean = average(iter(trees))
    np.testing.assert_allclose(mean["a"], [2, 4])
    np.testing.assert_allclose(mean["b"]["c"], [[5]])


def test_the_average_is_the_same_when_the_trees_come_one_by_one():
    leaves = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    seen, most = [], 0

    def trees():
        nonlocal most
        for leaf in leaves:
            tree = {"a": jnp.asarray(leaf)}
            seen.append(weakref.ref(tree["a"]))
            most = max(most, sum(one() is not None for one in seen))
            yield tree
            del tree

    mean = average(trees())
    np.testing.assert_array_equal(mean["a"], sum(map(jnp.asarray, leaves)) / 5)
    assert most == 2


def test_the_average_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no checkpoint to average"):
        average([])
