"""A model in CTranslate2: the same scores, the same greedy and beam search, post- and pre-norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.io.export_ctranslate2 import save
from jaxformer.model import (
    EOS,
    PAD,
    Learned,
    NoPositions,
    Transformer,
    pre_norm,
    shift_right,
)
from jaxformer.run.translation import make_decode

ctranslate2 = pytest.importorskip("ctranslate2", reason="`pip install .[export]` brings it")

VOCAB = 19
PIECES = ["<pad>", "<s>", "</s>", "<unk>", *(f"p{number}" for number in range(4, VOCAB))]
MODELS = {
    "post-norm": {"norm_epsilon": 1e-2},
    "pre-norm": {"residual": pre_norm, "attention_bias": True, "vocab_multiple": 5},
    "learned positions": {"positions": Learned, "max_length": 7, "activation": jax.nn.gelu},
    "no positions": {"positions": NoPositions, "activation": jax.nn.silu},
}
SIZES = {
    "vocab_size": VOCAB, "d_model": 10, "d_ff": 13, "num_heads": 2, "d_k": 5, "d_v": 5,
    "num_encoder_layers": 1, "num_decoder_layers": 2,
}  # fmt: skip
SOURCE_BS = np.array(
    [
        [5, 9, 13, 6, 17, EOS],
        [7, 4, EOS, PAD, PAD, PAD],
        [18, 18, 8, 12, EOS, PAD],
        [11, EOS, PAD, PAD, PAD, PAD],
    ]
)
TARGET_BT = np.array([[14, 5, 5, EOS], [6, EOS, PAD, PAD], [9, 17, EOS, PAD], [10, 16, 7, EOS]])


def make(name, folder):
    """Returns a model with large random parameters, and CTranslate2's of it."""
    model = Transformer(**SIZES, **MODELS[name])
    token_BT = jnp.ones((1, 2), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), token_BT, token_BT)["params"]
    generator = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: generator.normal(0.3, 0.6, leaf.shape).astype(np.float32), shapes
    )
    save(model, params, PIECES, folder, longest=40)
    return model, params, ctranslate2.Translator(str(folder), intra_threads=1)


def words(token_BT):
    return [[PIECES[token] for token in row if token not in (PAD, EOS)] for row in token_BT]


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_same(name, tmp_path):
    model, params, theirs = make(name, tmp_path)
    logits_BTW = jax.jit(model.apply)({"params": params}, SOURCE_BS, shift_right(TARGET_BT))
    log_prob_BT = np.take_along_axis(
        np.asarray(jax.nn.log_softmax(logits_BTW[..., :VOCAB])), TARGET_BT[..., None], axis=-1
    )[..., 0]
    scored = theirs.score_batch(words(SOURCE_BS), words(TARGET_BT))
    for row, found in enumerate(scored):
        assert found.tokens[-1] == "</s>"
        length = len(found.tokens)
        np.testing.assert_allclose(found.log_probs, log_prob_BT[row, :length], rtol=2e-4, atol=2e-4)
    # Or all models would be one.
    assert np.ptp(log_prob_BT[TARGET_BT != PAD]) > 1


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("name", ["post-norm", "pre-norm"])
def test_translations_are_the_same(name, num_beams, tmp_path):
    model, params, theirs = make(name, tmp_path)
    generator = np.random.default_rng(5)
    source_BS = generator.integers(4, VOCAB, (40, 6)).astype(np.int32)
    source_BS[:, -1] = EOS
    decode = make_decode(model, num_beams=num_beams, alpha=0.0, extra_length=9)
    ours = words(np.asarray(decode(params, source_BS)))
    found = theirs.translate_batch(
        words(source_BS), beam_size=num_beams, length_penalty=0, min_decoding_length=0,
        max_decoding_length=15,
    )  # fmt: skip
    # Those that met the limit end as their decoder likes.
    pairs = [
        (one, each.hypotheses[0])
        for one, each in zip(ours, found, strict=True)
        if max(len(one), len(each.hypotheses[0])) < 14
    ]
    assert len(pairs) > 10
    assert len({len(one) for one, _ in pairs}) > 2
    assert [one for one, _ in pairs] == [other for _, other in pairs]


UNKNOWN = {
    "an attention function of its own": {"attend": lambda *facts: None},
    "an activation other than RELU, GELUTanh, SWISH": {"activation": jnp.sin},
    "heads of width 3 and 5": {"d_k": 3},
    "a residual that is neither": {"residual": pre_norm._replace(final_norm=False)},
    "a stack without layers": {"num_encoder_layers": 0},
}


@pytest.mark.parametrize("fault", UNKNOWN)
def test_a_model_that_ctranslate2_lacks_is_refused(fault, tmp_path):
    model = Transformer(**{**SIZES, **UNKNOWN[fault]})
    with pytest.raises(ValueError, match=f"The model has {fault}") as raised:
        save(model, {}, PIECES, tmp_path, longest=40)
    assert "Export it as safetensors." in str(raised.value)
    assert list(tmp_path.iterdir()) == []
