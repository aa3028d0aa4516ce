"""Beam search against its definition in plain Python, and against exhaustive search."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decode import beam_search, gnmt_penalty, greedy, length_normalisation
from jaxformer.model.tokens import EOS

# As primes, so that no axis passes for another. Limits of 0 and below are fillers'.
B, W, T = 5, 7, 13
LIMITS = np.array([11, 0, 6, -1, 3], np.int32)


def unsteady(length_T, alpha):
    """A penalty that neither rises nor falls with the length."""
    return (1.0 + length_T % 3) ** alpha


RANKINGS = [
    *((gnmt_penalty, alpha) for alpha in (0.6, 0.0, -1.5, 3.0)),
    *((length_normalisation, alpha) for alpha in (1.0, -0.7)),
]

compiled = jax.jit(
    beam_search,
    static_argnames=[
        *("step", "reorder", "num_beams", "max_length", "length_penalty"),
        *("early_stop", "num_best"),
    ],
)


def search(model, limit_B, **options):
    options = {"num_beams": 3, "max_length": T, **options}
    cache = model.start(options["num_beams"])
    return compiled(model.step, model.reorder, cache, jnp.asarray(limit_B), **options)


def penalised(log_prob, length, alpha, penalty=gnmt_penalty):
    base = length if penalty is length_normalisation else (5 + length) / 6
    return log_prob / base**alpha


def beam_by_definition(model, row, limit, beams, alpha, penalty):
    """Section 6.1 for one sentence: [(tokens, score)], best first."""
    live, ended = [((), 0.0)] if limit >= 0 else [], []
    for time in range(limit + 1):
        candidates = [
            ((*tokens, token), log_prob + more)
            for tokens, log_prob in live
            for token, more in enumerate(model.log_prob_W(row, tokens))
            if time < limit or token == EOS
        ]
        candidates.sort(key=lambda candidate: -candidate[1])
        ended += [
            (tokens, penalised(log_prob, time + 1, alpha, penalty))
            for tokens, log_prob in candidates[:beams]
            if tokens[-1] == EOS
        ]
        ended = sorted(ended, key=lambda hypothesis: -hypothesis[1])[:beams]
        live = [candidate for candidate in candidates if candidate[0][-1] != EOS][:beams]
        if len(ended) == beams:
            break
    return ended


def assert_same_hypotheses(got, want):
    assert [tokens for tokens, _ in got] == [tokens for tokens, _ in want]
    np.testing.assert_allclose([s for _, s in got], [s for _, s in want], rtol=2e-5)


@pytest.mark.parametrize(("penalty", "alpha"), RANKINGS)
@pytest.mark.parametrize("beams", [1, 3, 11])
def test_follows_the_definition(table_model, found, beams, penalty, alpha):
    for seed in range(4):
        model = table_model.random(seed, B, W)
        got = search(model, LIMITS, num_beams=beams, alpha=alpha, length_penalty=penalty)
        for row, limit in enumerate(LIMITS):
            want = beam_by_definition(model, row, limit, beams, alpha, penalty)
            assert_same_hypotheses(found(got)[row], want)


@pytest.mark.parametrize(("penalty", "alpha"), RANKINGS)
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_is_exhaustive(table_model, found, seed, penalty, alpha):
    vocab, limit_B = 5, np.array([3, 2, 1])
    model = table_model.random(seed, len(limit_B), vocab)
    # Up to 4 + 16 + 64 outputs besides the empty one: more beams than that never end the search.
    options = {"num_beams": 89, "max_length": 5, "alpha": alpha, "length_penalty": penalty}
    got = found(search(model, limit_B, **options))
    others = [token for token in range(vocab) if token != EOS]
    for row, limit in enumerate(limit_B):
        outputs = [
            (*tokens, EOS)
            for length in range(limit + 1)
            for tokens in itertools.product(others, repeat=length)
        ]
        want = [
            (tokens, penalised(model.log_prob(row, tokens), len(tokens), alpha, penalty))
            for tokens in outputs
        ]
        assert_same_hypotheses(got[row], sorted(want, key=lambda hypothesis: -hypothesis[1]))


def test_one_beam_is_greedy_search(table_model, same):
    for seed in range(5):
        model = table_model.random(seed, B, W, eos_bonus=-1.0)
        one = search(model, LIMITS, num_beams=1, alpha=0.0)
        other = greedy(model.step, model.start(1), jnp.asarray(LIMITS), max_length=T)
        assert same(one, other)
        assert len(set(one.length_BM.ravel().tolist())) > 2


@pytest.mark.parametrize("num_best", [1, 2, 5])
@pytest.mark.parametrize(("penalty", "alpha"), [*RANKINGS, (unsteady, 1.3)])
def test_stopping_early_changes_nothing(table_model, same, penalty, alpha, num_best):
    for seed in range(20):
        model = table_model.random(seed, 53, W, eos_bonus=-0.5)
        limit_B = np.arange(53) % T
        run = partial(search, model, limit_B, num_beams=5, alpha=alpha, length_penalty=penalty)
        stopped = run(num_best=num_best, early_stop=True)
        patient = jax.tree.map(lambda x: x[:, :num_best], run(early_stop=False))
        assert same(stopped, patient)


steps = []


def counting_step(token_BM, cache):
    jax.debug.callback(lambda: steps.append(None))
    logits_QW, state_BM = cache
    return logits_QW[state_BM], cache


def count_steps(model, limit_B, **options):
    steps.clear()
    cache = model.start(3)
    limit_B = jnp.asarray(limit_B)
    options = {"num_beams": 3, "max_length": T, **options}
    jax.block_until_ready(compiled(counting_step, model.reorder, cache, limit_B, **options))
    jax.effects_barrier()
    return len(steps)


@pytest.mark.parametrize(
    ("penalty", "alpha"), [(gnmt_penalty, 0.6), (gnmt_penalty, -0.6), (length_normalisation, 0.1)]
)
def test_stopping_early_saves_steps(table_model, penalty, alpha):
    # EOS has probability 0.9, so that [EOS] is best from the first step on. The other two tokens
    # make up the beam: without EOS among the first three, nothing more ends.
    logits_W = np.log([1e-9, 1e-9, 0.9, 0.05, 0.05])
    model = table_model.constant(logits_W, 3)
    run = partial(count_steps, model, [11, 5, 0], alpha=alpha, length_penalty=penalty)
    assert run(num_best=1) < run(early_stop=False) <= 12


def test_ends_when_all_sentences_are_done(table_model):
    # [EOS], [3, EOS] and [4, EOS] are three, by the second step.
    model = table_model.constant(np.log([1e-9, 1e-9, 0.4, 0.3, 0.3]), 3)
    assert count_steps(model, [11, 0, 11], early_stop=False) == 2
    assert count_steps(model, [0, 0, -1], early_stop=False) == 1
    assert count_steps(model, [-1, -1, -1], early_stop=False) == 0


def test_the_rest_of_the_batch_does_not_matter(table_model, same):
    model = table_model.random(2, 31, W, eos_bonus=-0.5)
    limit_B = np.arange(31) % T
    run = partial(search, num_beams=3, num_best=2)
    together = jax.tree.map(np.asarray, run(model, limit_B))
    for row in range(0, 31, 3):
        alone = run(model.only([row]), limit_B[[row]])
        assert same(alone, jax.tree.map(lambda x, row=row: x[[row]], together))


def test_at_the_limit_only_eos_follows(table_model, found):
    # Without a limit EOS would never come: its logit is far below the others.
    model = table_model.random(5, B, W, eos_bonus=-40.0)
    got = search(model, LIMITS)
    assert list(map(len, found(got))) == [3, 1, 3, 0, 3]
    for row, limit in enumerate(LIMITS):
        hypotheses = found(got)[row]
        assert {len(tokens) for tokens, _ in hypotheses} <= {limit + 1}
        for (tokens, score), log_prob in zip(hypotheses, got.log_prob_BM[row], strict=False):
            np.testing.assert_allclose(log_prob, model.log_prob(row, tokens), rtol=1e-5)
            np.testing.assert_allclose(score, penalised(log_prob, limit + 1, 0.6), rtol=1e-5)


def test_a_limit_beyond_the_buffers_is_cut(table_model, same):
    model = table_model.random(5, B, W, eos_bonus=-40.0)
    assert same(search(model, [T + 8] * B), search(model, [T - 1] * B))


def test_longer_buffers_change_nothing(table_model):
    model = table_model.random(1, B, W)
    short, long = search(model, LIMITS), search(model, LIMITS, max_length=T + 10)
    np.testing.assert_array_equal(long.token_BMT[..., :T], short.token_BMT)
    np.testing.assert_array_equal(long.score_BM, short.score_BM)
    assert not np.any(long.token_BMT[..., T:])


def test_ties_go_to_the_lower_token_and_to_the_older(table_model, found):
    never = -1e9
    # Of the first tokens EOS, 3 and 4 are equal; after those EOS is certain.
    logits_QW = np.full((101, 5), never, np.float32)
    logits_QW[:, EOS] = 0.0
    model = table_model(logits_QW, np.zeros(1, np.int32))
    first_state = (1 * 17 + 7) % 101
    logits_QW[first_state, 3:] = 0.0
    for _ in range(2):
        got = found(search(model, [T - 1], alpha=0.0, early_stop=False))[0]
        assert [tokens for tokens, _ in got] == [(EOS,), (3, EOS), (4, EOS)]
        np.testing.assert_allclose([score for _, score in got], -np.log(3), rtol=1e-6)


def test_impossible_tokens_are_never_taken(table_model, found):
    # Two real tokens besides EOS and rows of padding, as the model gives them, for eleven beams.
    model = table_model.random(3, B, W)
    model.logits_QW[:, [0, 1, 5, 6]] = -1e9
    got = found(search(model, [2] * B, num_beams=11))
    for sentence in got:
        assert {token for tokens, _ in sentence for token in tokens} == {EOS, 3, 4}
        assert len(sentence) == 1 + 2 + 4


def test_a_sentence_of_nan_has_no_hypotheses(table_model, found, same):
    model = table_model.random(4, B, W)

    def step(token_BM, cache):
        logits_BMW, cache = model.step(token_BM, cache)
        return logits_BMW.at[2, :, 4].set(jnp.nan), cache

    options = {"num_beams": 3, "max_length": T}
    got = compiled(step, model.reorder, model.start(3), jnp.asarray(LIMITS), **options)
    assert found(got)[2] == []
    others = np.array([0, 1, 3, 4])
    assert same(*(jax.tree.map(lambda x: x[others], h) for h in (got, search(model, LIMITS))))


def test_is_one_compiled_loop(table_model):
    model = table_model.random(0, B, W)
    traced = []

    def step(token_BM, cache):
        traced.append(None)
        return model.step(token_BM, cache)

    run = partial(beam_search, step, model.reorder, num_beams=3, max_length=T)
    jaxpr = jax.make_jaxpr(run)(model.start(3), jnp.asarray(LIMITS)).jaxpr
    assert [str(equation.primitive) for equation in jaxpr.eqns].count("while") == 1
    assert len(traced) < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, r"num_beams=0 is too small\. Set it to 1 or more\."),
        ({"max_length": 0}, "max_length=0 is too small"),
        ({"num_best": 0}, "num_best=0 is too small"),
        ({"num_best": 5}, "num_best=5 hypotheses cannot come of num_beams=3"),
    ],
)
def test_bad_sizes(table_model, options, message):
    with pytest.raises(ValueError, match=message):
        search(table_model.random(0, B, W), LIMITS, **options)


@pytest.mark.parametrize("rooms", [(3, 2, T), (3, 3, T), (3, T - 1), (T, T + 1)])
def test_rooms_rise_to_the_greatest_length(table_model, rooms):
    model = table_model.random(0, B, W)
    run = partial(beam_search, model.step, model.reorder, model.start(4), jnp.asarray(LIMITS))
    with pytest.raises(ValueError, match=rf"do not rise to max_length={T}\. Give lengths that do"):
        run(max_length=T, grow=lambda cache, room: cache, rooms=rooms)


def test_room_is_given_when_it_is_taken(table_model, same):
    model = table_model.random(0, B, W)
    rooms = [1, 2, T]

    def start(beams):
        return model.start(beams), jnp.int32(0), jnp.int32(rooms[0])

    def step(token_BM, cache):
        inner, time, room = cache
        logits_BMW, inner = model.step(token_BM, inner)
        # Nothing follows a step for which there is no room.
        logits_BMW = jnp.where(time < room, logits_BMW, jnp.nan)
        return logits_BMW, (inner, time + 1, room)

    def reorder(cache, beam_BM):
        return model.reorder(cache[0], beam_BM), *cache[1:]

    def grow(cache, room):
        return *cache[:2], jnp.int32(room)

    options = {"num_beams": 3, "max_length": T}
    limit_B = jnp.asarray(LIMITS)
    found = beam_search(step, reorder, start(3), limit_B, grow=grow, rooms=rooms, **options)
    assert same(found, search(model, LIMITS))
    assert not same(found, beam_search(step, reorder, start(3), limit_B, **options))


def test_a_length_penalty_gives_each_length_its_own(table_model):
    model = table_model.random(0, B, W)
    with pytest.raises(ValueError, match=rf"penalty has shape \(\) for lengths of shape \({T},\)"):
        search(model, LIMITS, length_penalty=lambda length_T, alpha: alpha)
    with pytest.raises(ValueError, match=r"shape \(\) for lengths"):
        search(model, LIMITS, length_penalty=lambda length_T, alpha: 1)


def test_bad_shapes(table_model):
    model = table_model.random(0, B, W)
    with pytest.raises(ValueError, match=r"limit_B has shape \(\); give one limit a sentence"):
        search(model, 3)
    flat = table_model.random(0, B, 2 + 1)
    run = partial(beam_search, reorder=model.reorder, cache=model.start(3), limit_B=LIMITS)
    with pytest.raises(ValueError, match=r"logits of shape \(5, 3\) for tokens of shape \(5, 3\)"):
        run(lambda token_BM, cache: (token_BM * 1.0, cache), num_beams=3, max_length=T)
    with pytest.raises(ValueError, match="logits for 2 tokens; the vocabulary must hold at least"):
        run(
            lambda token_BM, cache: (flat.step(token_BM, cache)[0][..., :2], cache),
            num_beams=3,
            max_length=T,
        )
