"""A model in CTranslate2: the same scores, the same greedy and beam search, post- and pre-norm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.decode import length_normalisation
from jaxformer.io.export_ctranslate2 import save
from jaxformer.model import EOS, PAD, Learned, NoPositions, Transformer, pre_norm, shift_right
from jaxformer.optim import scale_by_paper_adam
from jaxformer.run.translation import make_decode
from jaxformer.train import Hyper, init_state, make_train_step

ctranslate2 = pytest.importorskip("ctranslate2", reason="`pip install .[export]` brings it")

VOCAB, LONGEST, STEPS = 19, 6, 150
PIECES = ["<pad>", "<s>", "</s>", "<unk>", *(f"p{number}" for number in range(4, VOCAB))]
SIZES = {
    "vocab_size": VOCAB, "d_model": 10, "d_ff": 13, "num_heads": 2, "d_k": 5, "d_v": 5,
    "num_encoder_layers": 1, "num_decoder_layers": 1,
}  # fmt: skip
MODELS = {
    "post-norm": {"norm_epsilon": 1e-2},
    "pre-norm": {
        "residual": pre_norm, "attention_bias": True, "vocab_multiple": 5, "positions": Learned,
        "max_length": 7, "activation": jax.nn.gelu,
    },
}  # fmt: skip


def sentences(generator, rows):
    """Returns token_BT, rows of different lengths."""
    token_BT = generator.integers(4, VOCAB, (rows, LONGEST))
    length_B1 = generator.integers(1, LONGEST, (rows, 1))
    place_T = np.arange(LONGEST)
    token_BT = np.where(place_T < length_B1, token_BT, PAD)
    return np.where(place_T == length_B1, EOS, token_BT).astype(np.int32)


@functools.cache
def trained(name):
    """Returns a model that has begun to learn to copy, and its parameters."""
    model, optimizer = Transformer(**SIZES, **MODELS[name]), scale_by_paper_adam()
    step = jax.jit(make_train_step(model, optimizer, lambda step, hyper: hyper.learning_rate))
    hyper = Hyper.create(dropout_rate=0.0, learning_rate=0.01)
    state = jax.jit(lambda: init_state(model, optimizer, hyper, 0))()
    generator = np.random.default_rng(0)
    for _ in range(STEPS):
        token_BT = sentences(generator, 61)
        state, _ = step(state, {"source_BS": token_BT, "target_BT": token_BT})
    # Biases of the keys have no gradient, and zeros would hide where they belong.
    return model, jax.tree.map(lambda leaf: leaf + 0.01, state.params)


def translator(model, params, folder):
    """Returns CTranslate2's model."""
    save(model, params, PIECES, folder, longest=40)
    return ctranslate2.Translator(str(folder), intra_threads=1)


def words(token_BT):
    return [[PIECES[token] for token in row if token not in (PAD, EOS)] for row in token_BT]


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_same(name, tmp_path):
    model, params = trained(name)
    generator = np.random.default_rng(1)
    source_BS, target_BT = sentences(generator, 23), sentences(generator, 23)
    logits_BTW = jax.jit(model.apply)({"params": params}, source_BS, shift_right(target_BT))
    log_prob_BT = np.take_along_axis(
        np.asarray(jax.nn.log_softmax(logits_BTW[..., :VOCAB])), target_BT[..., None], axis=-1
    )[..., 0]
    scored = translator(model, params, tmp_path).score_batch(words(source_BS), words(target_BT))
    for row, found in enumerate(scored):
        assert found.tokens[-1] == "</s>"
        ours = log_prob_BT[row, : len(found.tokens)]
        np.testing.assert_allclose(found.log_probs, ours, rtol=1e-4, atol=1e-4)
    # Or any model would do.
    assert np.ptp(log_prob_BT[target_BT != PAD]) > 3


# A penalty of 1e-6 ranks as 0 does, and lets the search end as ours does.
@pytest.mark.parametrize(("num_beams", "alpha"), [(1, 1e-6), (4, 1e-6), (4, 3.0)])
@pytest.mark.parametrize("name", MODELS)
def test_translations_are_the_same(name, num_beams, alpha, tmp_path):
    model, params = trained(name)
    source_BS = sentences(np.random.default_rng(2), 47)
    decode = make_decode(
        model,
        num_beams=num_beams,
        alpha=alpha,
        extra_length=9,
        length_penalty=length_normalisation,
    )
    ours = words(np.asarray(decode(params, source_BS)))
    found = translator(model, params, tmp_path).translate_batch(
        words(source_BS), beam_size=num_beams, length_penalty=alpha, min_decoding_length=0
    )
    # Limits differ, so that what meets ours is left out.
    pairs = [
        (one, each.hypotheses[0])
        for one, each, source in zip(ours, found, words(source_BS), strict=True)
        if len(one) < len(source) + 9
    ]
    assert [other for _, other in pairs] == [one for one, _ in pairs]
    assert len(pairs) > 40
    assert len({len(one) for one, _ in pairs}) > 3
    assert len({tuple(one) for one, _ in pairs}) > 20


def test_layers_positions_and_activations_are_any_that_it_knows(tmp_path):
    others = {"num_encoder_layers": 2, "num_decoder_layers": 3, "positions": NoPositions}
    model = Transformer(**{**SIZES, **others}, activation=jax.nn.silu)
    token_BT = jnp.ones((1, 2), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), token_BT, token_BT)["params"]
    generator = np.random.default_rng(3)
    params = jax.tree.map(lambda leaf: generator.normal(0, 0.6, leaf.shape), shapes)
    source_BS, target_BT = np.array([[5, 9, EOS]]), np.array([[6, EOS]])
    logits_1TW = jax.jit(model.apply)({"params": params}, source_BS, shift_right(target_BT))
    ours = np.asarray(jax.nn.log_softmax(logits_1TW))[0, [0, 1], target_BT[0]]
    (found,) = translator(model, params, tmp_path).score_batch(words(source_BS), words(target_BT))
    np.testing.assert_allclose(found.log_probs, ours, rtol=1e-4, atol=1e-4)


UNKNOWN = {
    "an attention function of its own": {"attend": lambda *facts: None},
    "an activation other than RELU, GELUTanh, SWISH": {"activation": jnp.sin},
    "heads of width 3 and 5": {"d_k": 3},
    "a residual that is neither": {"residual": pre_norm._replace(final_norm=False)},
    "a window of attention": {"attention_window": 3},
    "a stack without layers": {"num_encoder_layers": 0},
}


@pytest.mark.parametrize("fault", UNKNOWN)
def test_a_model_that_ctranslate2_lacks_is_refused(fault, tmp_path):
    model = Transformer(**{**SIZES, **UNKNOWN[fault]})
    with pytest.raises(ValueError, match=f"The model has {fault}") as raised:
        save(model, {}, PIECES, tmp_path, longest=40)
    assert "Export it as safetensors." in str(raised.value)
    assert list(tmp_path.iterdir()) == []
