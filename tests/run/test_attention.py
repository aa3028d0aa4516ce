"""The attention of one sentence: names, weights, padding, and what cannot be asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.data.sentence_piece import train_sentence_piece
from jaxformer.io.attention_map import readable
from jaxformer.model import Transformer, attention_weights
from jaxformer.run.attention import sentence_attention
from jaxformer.run.restoring import abstract_params
from jaxformer.run.translation import make_decode

WORDS = ["ash", "bay", "cob", "dew", "elm", "fig"]
KINDS = ["encoder", "decoder", "cross"]


@pytest.fixture(scope="module")
def tokenizer():
    lines = [f"{a} {b}. {c}" for a in WORDS for b in WORDS for c in WORDS]
    return train_sentence_piece(lines, 290)


def named(tokenizer, tokens):
    return readable(tokenizer.pieces(tokens), tokenizer.starts_word(tokens))


@pytest.fixture(scope="module")
def model(tokenizer):
    return Transformer(
        vocab_size=tokenizer.vocab_size, d_model=10, d_ff=14, num_heads=3, d_k=5, d_v=7,
        num_encoder_layers=2, num_decoder_layers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def params(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), abstract_params(model)
    )


def test_weights_are_those_of_the_model_and_have_names(model, params, tokenizer):
    found = sentence_attention(model, params, tokenizer, "ash  bay", "elm fig. dew")
    assert (found.source, found.target) == ("ash  bay", "elm fig. dew")
    source_S, target_T = tokenizer.encode(["ash bay", "elm fig. dew"])
    source, target = (named(tokenizer, tokens) for tokens in (source_S, target_T))
    assert (source[-1], target[-1]) == ("</s>", "</s>")
    assert len(source) != len(target)
    names = {
        "encoder": (source, source),
        "decoder": (target, ["<s>", *target[:-1]]),
        "cross": (target, source),
    }
    # Without the padding that `sentence_attention` adds.
    expected = jax.jit(lambda params, *rows: attention_weights(model, params, *rows))(
        params, source_S[None], target_T[None]
    )
    assert list(found.maps) == KINDS
    for kind, each in found.maps.items():
        assert (each.queries, each.keys) == names[kind]
        assert each.weights_LHTS.dtype == np.float32
        for weights_HTS, weights_BHTS in zip(each.weights_LHTS, expected[kind], strict=True):
            np.testing.assert_allclose(weights_HTS, weights_BHTS[0], atol=1e-5)
    assert [len(found.maps[kind].weights_LHTS) for kind in KINDS] == [2, 1, 1]


def test_without_a_target_the_model_s_own_is_looked_at(model, params, tokenizer):
    settings = {"num_beams": 2, "alpha": 0.6, "extra_length": 5}
    found = sentence_attention(model, params, tokenizer, "ash bay cob", **settings)
    (source_S,) = tokenizer.encode(["ash bay cob"])
    decode = make_decode(model, **settings)
    width = 16 * -(-len(source_S) // 16)
    token_T = np.asarray(decode(params, np.pad(source_S, (0, width - len(source_S)))[None]))[0]
    token_T = token_T[token_T != 0]
    assert found.maps["cross"].queries == named(tokenizer, token_T)
    assert found.target == " ".join(tokenizer.decode(token_T).splitlines())


def test_sentences_of_about_a_length_share_a_program(model, params, tokenizer):
    traced = []

    def counting(*arguments):
        traced.append(1)
        return model.attend(*arguments)

    counted = model.clone(attend=counting)
    for source in ("ash", "bay cob", "dew"):
        sentence_attention(counted, params, tokenizer, source, "elm")
    assert len(traced) == 4


def test_what_cannot_be_drawn_is_told(model, params, tokenizer):
    with pytest.raises(ValueError, match="The source sentence is blank"):
        sentence_attention(model, params, tokenizer, " \n", "ash")
    with pytest.raises(ValueError, match="The target sentence is blank"):
        sentence_attention(model, params, tokenizer, "ash", "")
    with pytest.raises(ValueError, match=r"source sentence has \d+ tokens, more than the 4 of"):
        sentence_attention(model, params, tokenizer, "ash " * 9, "ash", longest=4)
    with pytest.raises(ValueError, match=r"target sentence has \d+ tokens, more than the 4 of"):
        sentence_attention(model, params, tokenizer, "ash", "ash " * 9, longest=4)

    def silent(*arguments):
        return model.attend(*arguments)[0], None

    with pytest.raises(ValueError, match="returns no weights"):
        sentence_attention(model.clone(attend=silent), params, tokenizer, "ash", "bay")


def test_each_sentence_is_spelt_by_the_rules_of_its_side(model, params, tokenizer, monkeypatch):
    asked = []
    encode = tokenizer.encode

    def note(texts, side="source"):
        asked.append((texts[0], side))
        return encode(texts, side)

    monkeypatch.setattr(tokenizer, "encode", note)
    sentence_attention(model, params, tokenizer, "ash bay", "dew")
    assert asked == [("ash bay", "source"), ("dew", "target")]
