"""A BERT of Hugging Face's in our modules: equal output, and files that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from jaxformer.io.bert import read_bert
from jaxformer.model.text_encoder import hidden_and_weights

GOLDEN = Path(__file__).parent.parent / "golden" / "bert.npz"
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": 41,
    "hidden_size": 15,
    "intermediate_size": 23,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "max_position_embeddings": 13,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


@pytest.fixture(scope="module")
def golden():
    """Made by tests/golden/make_bert_golden.py."""
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture
def write(tmp_path, golden):
    """Returns write(config, tensors), which writes a folder with changes; None takes one out."""

    def run(config=None, tensors=None):
        all_tensors = {
            name.removeprefix("tensor/"): array
            for name, array in golden.items()
            if name.startswith("tensor/")
        }
        for whole, changes, path in (
            (dict(CONFIG), config, "config.json"),
            (all_tensors, tensors, "model.safetensors"),
        ):
            whole.update(changes or {})
            kept = {name: value for name, value in whole.items() if value is not None}
            if path == "config.json":
                (tmp_path / path).write_text(json.dumps(kept), encoding="utf-8")
            else:
                safetensors.numpy.save_file(kept, tmp_path / path)
        return tmp_path

    return run


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_the_same_as_hugging_face(write, golden, prefix):
    folder = write()
    if prefix:
        tensors = {
            f"{prefix}{name}": array
            for name, array in safetensors.numpy.load_file(folder / "model.safetensors").items()
        }
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    model, params = read_bert(folder)
    is_token_BS = golden["is_token"]
    hidden_BSD = model.apply({"params": params}, golden["token"], is_token_BS, golden["type"])
    np.testing.assert_allclose(hidden_BSD[is_token_BS], golden["hidden"][is_token_BS], atol=2e-5)


def test_the_same_weights_of_attention(write, golden):
    model, params = read_bert(write())
    is_token_BS = golden["is_token"]
    _, weights = hidden_and_weights(model, params, golden["token"], is_token_BS, golden["type"])
    looks_BHT = np.broadcast_to(is_token_BS[:, None], golden["weights"].shape[1:4])
    for found_BHTS, expected_BHTS in zip(weights, golden["weights"], strict=True):
        found_BHTS = np.asarray(found_BHTS)
        np.testing.assert_allclose(found_BHTS[looks_BHT], expected_BHTS[looks_BHT], atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "roberta"}, "model_type='roberta'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
        ({"hidden_act": "swish"}, "hidden_act='swish', which is none of gelu"),
        ({"hidden_size": None}, "lacks 'hidden_size'"),
        ({"hidden_size": 18}, r"has shape \(41, 15\), and embedding/table needs \(41, 18\)"),
        ({"num_hidden_layers": 3}, "no tensor 'encoder.layer.2"),
        ({"num_hidden_layers": 1}, "'encoder.layer.1.* a BERT of 1 layers has no place for"),
    ],
)
def test_settings_that_do_not_fit_are_told(write, config, message):
    with pytest.raises(ValueError, match=message):
        read_bert(write(config))


def test_a_config_that_is_no_json_is_told(write):
    folder = write()
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="config.json is not JSON"):
        read_bert(folder)
