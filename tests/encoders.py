"""A tiny encoder in a folder, as Hugging Face writes one: random parameters, known words."""

import json
from pathlib import Path

import numpy as np
import pytest

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["the", "lord", "is", "my", "shepherd", "s", "##s", "sheep", "##fold", "'", ".", ",", "and"]
SIZES = {"hidden_size": 15, "intermediate_size": 23, "num_attention_heads": 3}
NUM_LAYERS = 2


def write_encoder(folder: Path, seed: int = 0) -> Path:
    """Writes config.json, model.safetensors and tokenizer.json to a new folder."""
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs jaxformer[memory]")
    tokenizers = pytest.importorskip("tokenizers", reason="needs jaxformer[memory]")
    folder.mkdir(parents=True)
    pieces = [*SPECIAL, *WORDS]
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": len(pieces),
        **SIZES,
        "num_hidden_layers": NUM_LAYERS,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    safetensors.save_file(_tensors(config, seed), folder / "model.safetensors")
    vocab = {piece: id for id, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    # As the file of MiniLM has it, which is of no use here.
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _tensors(config: dict, seed: int) -> dict[str, np.ndarray]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
        "pooler.dense.weight": (width, width),
    }
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for name, sizes in {
            "attention.self.query": (width, width),
            "attention.self.key": (width, width),
            "attention.self.value": (width, width),
            "attention.output.dense": (width, width),
            "attention.output.LayerNorm": (width,),
            "intermediate.dense": (inner, width),
            "output.dense": (width, inner),
            "output.LayerNorm": (width,),
        }.items():
            shapes[f"{layer}.{name}.weight"] = sizes
            shapes[f"{layer}.{name}.bias"] = sizes[:1]
    rng = np.random.default_rng(seed)
    return {
        name: (0.4 * rng.normal(size=shape) + name.endswith("LayerNorm.weight")).astype(np.float32)
        for name, shape in shapes.items()
    }
