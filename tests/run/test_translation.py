"""Translating lines: the order, blank lines, long lines, and neighbours that do not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.data.sentence_piece import train_sentence_piece
from jaxformer.model import EOS, Learned, Transformer
from jaxformer.run.translation import (
    cache_rooms,
    cut,
    make_decode,
    make_translate,
    translate_stream,
)

WORDS = ["ash", "bay", "cob", "dew", "elm", "fig"]
SETTINGS = {"num_beams": 2, "alpha": 0.6, "extra_length": 5, "longest": 16, "batch_tokens": 64}


@pytest.fixture(scope="module")
def tokenizer():
    lines = [f"{a} {b}. {c}" for a in WORDS for b in WORDS for c in WORDS]
    return train_sentence_piece(lines, 290)


@pytest.fixture(scope="module")
def model(tokenizer):
    return Transformer(
        vocab_size=tokenizer.vocab_size, d_model=10, d_ff=14, num_heads=2, d_k=5, d_v=3,
        num_encoder_layers=1, num_decoder_layers=1, positions=Learned, max_length=23,
    )  # fmt: skip


@pytest.fixture(scope="module")
def params(model):
    token_BT = jnp.ones((1, 2), jnp.int32)
    params = jax.jit(model.init)(jax.random.key(0), token_BT, token_BT)["params"]
    # Large weights, so that outputs differ.
    return jax.tree.map(lambda leaf: 3.0 * leaf, params)


def test_lines_keep_their_order_and_do_not_depend_on_neighbours(model, params, tokenizer):
    translate = make_translate(model, tokenizer, **SETTINGS)
    lines = ["ash bay", "", "elm fig. cob cob cob cob", " \t", "dew", "fig dew ash", "ash bay"]
    outputs = translate(params, lines)
    assert len(outputs) == len(lines)
    assert [not output for output in outputs] == [not line.strip() for line in lines]
    alone = [translate(params, [line])[0] for line in lines]
    assert outputs == alone
    assert len(set(outputs)) == 5
    assert translate(params, []) == []
    assert not any("\n" in output for output in outputs)


def test_a_cache_has_room_for_what_is_usual_first():
    assert cache_rooms(55) == (55,)
    assert cache_rooms(127) == (127,)
    assert cache_rooms(128) == (64, 128)
    assert cache_rooms(316) == (64, 128, 316)


def test_a_stream_is_translated_some_lines_at_once(model, params, tokenizer):
    translate = make_translate(model, tokenizer, **SETTINGS)
    lines = ["ash bay", "dew", "", "fig dew ash", "elm"]
    read = []

    def source():
        for line in lines:
            read.append(line)
            yield line

    stream = translate_stream(translate, params, source(), 2)
    first = next(stream)
    assert len(read) == 2
    assert [len(first), *(len(some) for some in stream)] == [2, 2, 1]
    assert first == translate(params, lines[:2])


def test_progress_is_reported(model, params, tokenizer):
    calls = []
    translate = make_translate(
        model, tokenizer, **SETTINGS, report=lambda done, total: calls.append((done, total))
    )
    translate(params, ["ash", "", "bay " * 40])
    total = calls[0][1]
    assert total > 3
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_pieces_are_as_long_as_asked(tokenizer):
    tokens = tokenizer.encode(["ash bay " * 50])[0]
    for limit in (2, 3, 23):
        pieces = cut(tokens, limit, tokenizer)
        assert max(len(piece) for piece in pieces) <= limit
        assert np.concatenate([piece[:-1] for piece in pieces]).tolist() == tokens[:-1].tolist()
    with pytest.raises(ValueError, match="Pieces of 1 tokens hold EOS alone"):
        cut(tokens, 1, tokenizer)


def test_line_breaks_within_a_translation_become_spaces(model, params, tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "decode", lambda self, ids: "a\nb\r\nc\u2028d")
    assert make_translate(model, tokenizer, **SETTINGS)(params, ["ash"]) == ["a b c d"]


def test_outputs_are_ranked_by_the_length_penalty_that_is_given(model, params):
    # All tokens are equally likely, EOS too: a hypothesis ends at every step, three in all.
    even = {**params, "embedding": {"table": jnp.zeros_like(params["embedding"]["table"])}}
    source_BS = np.array([[5, 6, EOS, 0], [7, EOS, 0, 0]], np.int32)
    for alpha, length in ((-3.0, 1), (3.0, 3)):
        decode = make_decode(
            model,
            num_beams=3,
            alpha=alpha,
            extra_length=4,
            length_penalty=lambda length_T, alpha: jnp.exp(alpha * length_T),
        )
        token_BT = np.asarray(decode(even, source_BS))
        assert (1 + np.argmax(token_BT == EOS, axis=1)).tolist() == [length, length]


def test_rows_of_padding_decode_to_padding(model, params):
    source_BS = np.array([[5, 6, EOS, 0], [0, 0, 0, 0]], np.int32)
    decode = make_decode(model, num_beams=3, alpha=0.6, extra_length=2)
    token_BT = np.asarray(decode(params, source_BS))
    assert token_BT.shape == (2, 6)
    assert not token_BT[1].any()
    assert EOS in token_BT[0]


def test_an_output_is_at_most_so_much_longer(model, params):
    # No EOS ever: its row of the shared matrix is turned against every output.
    table = params["embedding"]["table"].at[EOS].set(0.0)
    never = {**params, "embedding": {"table": table}}
    source_BS = np.array([[5, 6, 7, 8, EOS, 0], [5, EOS, 0, 0, 0, 0]], np.int32)
    decode = make_decode(model, num_beams=1, alpha=0.6, extra_length=3)
    lengths = (np.asarray(decode(never, source_BS)) != 0).sum(axis=1)
    # EOS comes on top.
    assert lengths.tolist() == [4 + 3 + 1, 1 + 3 + 1]


@given(
    st.lists(st.sampled_from([*WORDS, "ash.", "x"]), max_size=60).map(" ".join),
    st.integers(min_value=2, max_value=40),
)
def test_pieces_are_the_sentence_and_short_enough(tokenizer, text, limit):
    (tokens,) = tokenizer.encode([text])
    pieces = cut(tokens, limit, tokenizer)
    assert all(1 < len(piece) <= limit or len(tokens) == 1 for piece in pieces)
    assert all(piece[-1] == EOS and EOS not in piece[:-1] for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece[:-1] for piece in pieces]), tokens[:-1])


def test_cuts_are_at_sentences_or_words(tokenizer):
    (tokens,) = tokenizer.encode(["ash bay. cob dew elm. fig ash bay cob dew elm fig ash"])
    texts = [tokenizer.decode(piece) for piece in cut(tokens, 14, tokenizer)]
    assert len(texts) > 1
    assert texts[0].endswith(".")
    assert all(word in [*WORDS, "bay.", "elm."] for text in texts for word in text.split())
