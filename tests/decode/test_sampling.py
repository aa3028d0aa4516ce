"""Greedy search against plain Python; sampling by its statistics and its independence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decode import greedy, sample
from jaxformer.decode.sampling import _draw, _nucleus
from jaxformer.model.tokens import EOS

# As primes, so that no axis passes for another. Limits of 0 and below are fillers'.
B, W, T = 5, 7, 13
LIMITS = np.array([11, 0, 6, -1, 3], np.int32)

compiled = jax.jit(
    sample, static_argnames=["step", "max_length", "num_samples", "temperature", "top_k", "top_p"]
)
compiled_greedy = jax.jit(greedy, static_argnames=["step", "max_length"])


def draw(model, limit_B, *, seed=0, row_B=None, **options):
    options = {"max_length": T, "num_samples": 3, **options}
    row_B = np.arange(len(limit_B)) if row_B is None else row_B
    cache = model.start(options["num_samples"])
    return compiled(
        model.step,
        cache,
        jnp.asarray(limit_B),
        jax.random.key(seed),
        row_B=jnp.asarray(row_B),
        **options,
    )


def greedily(model, limit_B):
    return compiled_greedy(model.step, model.start(1), jnp.asarray(limit_B), max_length=T)


def greedy_by_definition(model, row, limit):
    tokens = []
    while EOS not in tokens:
        log_prob_W = model.log_prob_W(row, tokens)
        tokens.append(int(np.argmax(log_prob_W)) if len(tokens) < limit else EOS)
    return tuple(tokens)


@pytest.mark.parametrize("eos_bonus", [1.0, -1.0, -40.0])
def test_greedy_follows_the_definition(table_model, found, eos_bonus):
    for seed in range(5):
        model = table_model.random(seed, B, W, eos_bonus)
        got = found(greedily(model, LIMITS))
        assert got[3] == []
        for row in (0, 1, 2, 4):
            [(tokens, score)] = got[row]
            assert tokens == greedy_by_definition(model, row, LIMITS[row])
            np.testing.assert_allclose(score, model.log_prob(row, tokens), rtol=2e-5)


def test_a_limit_beyond_the_buffers_is_cut(table_model, same):
    model = table_model.random(5, B, W, eos_bonus=-40.0)
    assert same(greedily(model, [T + 8] * B), greedily(model, [T - 1] * B))


def test_greedy_takes_the_lowest_of_equals(table_model, found):
    model = table_model.constant([0.0, 0.0, 0.0, 5.0, 5.0], 1)
    assert found(greedily(model, [2]))[0][0][0] == (3, 3, EOS)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0, "top_p": 0.5}, {"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-30}],
)
def test_a_distribution_on_one_token_is_greedy_search(table_model, found, options):
    model = table_model.random(0, B, W, eos_bonus=-1.0)
    got = found(draw(model, LIMITS, **options))
    want = found(greedily(model, LIMITS))
    assert got == [sentence * 3 for sentence in want]


def test_the_log_probability_is_the_models_own(table_model, found):
    model = table_model.random(0, 17, W)
    got = draw(model, np.arange(17) % T, temperature=1.7, top_k=4, top_p=0.9)
    np.testing.assert_array_equal(got.score_BM, got.log_prob_BM)
    lengths = set()
    for row, sentence in enumerate(found(got)):
        assert len(sentence) == 3
        for tokens, score in sentence:
            assert len(tokens) <= row % T + 1
            lengths.add(len(tokens))
            np.testing.assert_allclose(score, model.log_prob(row, tokens), rtol=2e-5)
    assert len(lengths) > 3


PROBABILITY_W = np.array([0.05, 0.30, 0.10, 0.20, 0.20, 0.08, 0.07])


@pytest.mark.parametrize(
    ("options", "weight_W"),
    [
        ({}, PROBABILITY_W),
        ({"temperature": 0.5}, PROBABILITY_W**2),
        ({"top_k": 2}, PROBABILITY_W * [0, 1, 0, 1, 0, 0, 0]),
        ({"top_k": 99}, PROBABILITY_W),
        # The second of two equals comes along; 0.70 is just short of 0.71.
        ({"top_p": 0.45}, PROBABILITY_W * [0, 1, 0, 1, 1, 0, 0]),
        ({"top_p": 0.71}, PROBABILITY_W * [0, 1, 1, 1, 1, 0, 0]),
        # Of the squares 1 holds 0.42 and 3 and 4 hold 0.19 each: 0.45 counts after the temperature.
        ({"top_p": 0.45, "temperature": 0.25}, PROBABILITY_W**4 * [0, 1, 0, 0, 0, 0, 0]),
        # Of the first four 1 holds 0.375: 0.36 counts after top_k.
        ({"top_p": 0.36, "top_k": 4}, PROBABILITY_W * [0, 1, 0, 0, 0, 0, 0]),
    ],
)
def test_tokens_come_as_often_as_they_should(table_model, options, weight_W):
    rows, samples = 2003, 5
    model = table_model.constant(np.log(PROBABILITY_W), rows)
    got = draw(model, [1] * rows, max_length=2, num_samples=samples, **options)
    count_W = np.bincount(np.asarray(got.token_BMT)[..., 0].ravel(), minlength=W)
    want_W = weight_W / weight_W.sum()
    deviation_W = np.sqrt(want_W * (1 - want_W) / (rows * samples))
    assert np.all(np.abs(count_W / (rows * samples) - want_W) <= 4 * deviation_W)


def chi_squared_of_pairs(one, other, vocab) -> float:
    """How far two series are from independent and uniform, in deviations of chi squared."""
    pairs = np.bincount(np.ravel(one) * vocab + np.ravel(other), minlength=vocab**2)
    expected = np.size(one) / vocab**2
    freedom = vocab**2 - 1
    return (np.sum((pairs - expected) ** 2 / expected) - freedom) / np.sqrt(2 * freedom)


def test_draws_are_independent(table_model):
    rows, vocab = 1009, 11
    # EOS comes at the limit only, so that no draw is lost to an early end; others are uniform.
    logits_W = np.where(np.arange(vocab) == EOS, -40.0, 0.0)
    model = table_model.constant(logits_W, rows)
    got = draw(model, [T - 1] * rows)
    token_BMT = np.asarray(got.token_BMT)[..., : T - 1]
    digit_BMT = token_BMT - (token_BMT > EOS)
    pairs = {
        "steps": (digit_BMT[..., :-1], digit_BMT[..., 1:]),
        "samples": (digit_BMT[:, :-1], digit_BMT[:, 1:]),
        "rows": (digit_BMT[:-1], digit_BMT[1:]),
        # (row, sample + 1) must not be (row + 1, sample), nor with steps.
        "row and sample": (digit_BMT[1:, :-1], digit_BMT[:-1, 1:]),
        "sample and step": (digit_BMT[:, 1:, :-1], digit_BMT[:, :-1, 1:]),
    }
    for name, (one, other) in pairs.items():
        assert abs(chi_squared_of_pairs(one, other, vocab - 1)) < 4, name
    another = np.asarray(draw(model, [T - 1] * rows, seed=1).token_BMT)[..., : T - 1]
    other = another - (another > EOS)
    assert abs(chi_squared_of_pairs(digit_BMT, other, vocab - 1)) < 4


@pytest.mark.parametrize("options", [{}, {"top_k": 5, "top_p": 0.8}])
def test_the_rest_of_the_batch_does_not_matter(table_model, same, options):
    model = table_model.random(2, 17, W)
    limit_B = np.arange(17) % T
    together = jax.tree.map(np.asarray, draw(model, limit_B, row_B=np.arange(17) + 100, **options))
    for row in (1, 5, 16):
        alone = draw(model.only([row]), limit_B[[row]], row_B=[row + 100], num_samples=2, **options)
        assert same(alone, jax.tree.map(lambda x, row=row: x[[row], :2], together))


@pytest.mark.parametrize("options", [{"top_k": 5}, {"top_p": 0.99, "temperature": 1e12}])
def test_impossible_tokens_are_never_drawn(table_model, options):
    model = table_model.constant([-1e9, 0.0, -np.inf, 1.0, -1e9, 2.0, -1e9], 211)
    got = draw(model, [1] * 211, max_length=2, **options)
    # Nor can EOS follow, so none of them ends.
    assert np.all(np.asarray(got.score_BM) == -np.inf)
    assert not np.any(got.token_BMT)
    assert not np.any(got.length_BM)
    model.logits_QW[:, EOS] = -9.0
    first_BM = np.asarray(draw(model, [1] * 211, max_length=2, **options).token_BMT)[..., 0]
    assert set(first_BM.ravel().tolist()) - {EOS} == {1, 3, 5}


def test_a_sentence_of_nan_has_no_hypotheses(table_model, found):
    model = table_model.constant([0.0, 1.0, 2.0, np.nan], 3)
    for options in ({"top_k": 2}, {"top_p": 0.5}):
        assert found(draw(model, [5, 0, -1], **options)) == [[], [], []]


def test_nucleus_equals_sorting():
    rng = np.random.default_rng(0)
    weight_RC = np.exp(rng.normal(size=(53, 97)) * 4).astype(np.float32)
    weight_RC /= weight_RC.max(axis=1, keepdims=True)
    weight_RC[:, rng.permutation(97)[:20]] = 0.0
    for top_p in (0.1, 0.5, 0.9, 0.999):
        got_RC = np.asarray(_nucleus(jnp.asarray(weight_RC), top_p))
        for weight_C, got_C in zip(weight_RC.astype(np.float64), got_RC, strict=True):
            order = np.argsort(-weight_C)
            before = np.cumsum(weight_C[order]) - weight_C[order]
            kept = order[before < top_p * weight_C.sum()]
            want_C = np.zeros_like(weight_C)
            want_C[kept] = weight_C[kept]
            np.testing.assert_array_equal(got_C, want_C)


def test_draw_never_takes_what_has_no_weight():
    weight_RC = np.tile(np.array([0, 0, 0.3, 0, 0.5, 0, 0.2, 0, 0], np.float32), (7, 1))
    below_one = np.float32(1.0) - np.float32(2.0**-24)
    uniform_R1 = np.array([[0.0, 0.2999, 0.3001, 0.7999, 0.8001, 0.99, below_one]], np.float32).T
    got_R1 = _draw(jnp.asarray(weight_RC), jnp.asarray(uniform_R1))
    assert got_R1.ravel().tolist() == [2, 2, 4, 4, 6, 6, 6]


def test_draw_withstands_the_rounding_of_parallel_sums():
    rng = np.random.default_rng(0)
    weight_RC = np.exp(rng.normal(size=(211, 997)) * 3).astype(np.float32)
    weight_RC[rng.random(weight_RC.shape) < 0.5] = 0.0
    # Where the sum rises at a token of weight 0, a random number that falls between hits it.
    below_RC = np.asarray(jnp.cumsum(weight_RC, axis=1))
    before_RC = np.maximum.accumulate(below_RC, axis=1)[:, :-1]
    row, index = np.nonzero((weight_RC[:, 1:] == 0.0) & (below_RC[:, 1:] > before_RC))
    assert len(row) > 100
    uniform_R1 = (before_RC[row, index] / below_RC[row].max(axis=1))[:, None]
    got_R1 = np.asarray(_draw(jnp.asarray(weight_RC[row]), jnp.asarray(uniform_R1)))
    assert np.all(np.take_along_axis(weight_RC[row], got_R1, axis=1) > 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.5}, r"temperature=-0\.5 is no temperature\. Set it to 0 or more\."),
        ({"temperature": float("nan")}, "temperature=nan is no temperature"),
        ({"temperature": float("inf")}, "temperature=inf is no temperature"),
        ({"top_k": -1}, "top_k=-1 is below 0"),
        ({"top_p": 0.0}, r"top_p=0\.0 is not in \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p=1\.5 is not in \(0, 1\]"),
        ({"top_p": float("nan")}, "top_p=nan is not in"),
        ({"num_samples": 0}, "num_samples=0 is too small"),
        ({"max_length": 0}, "max_length=0 is too small"),
        ({"row_B": np.arange(3)}, r"row_B has shape \(3,\) and limit_B \(5,\)"),
    ],
)
def test_bad_values(table_model, options, message):
    with pytest.raises(ValueError, match=message):
        draw(table_model.random(0, B, W), LIMITS, **options)
