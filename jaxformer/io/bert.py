"""A trained BERT as a TextEncoder of ours: MiniLM, and what else has its form."""

import functools
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxformer.io.weights import fill, read_safetensors
from jaxformer.model.layers import Activation
from jaxformer.model.text_encoder import TextEncoder

CONFIG, WEIGHTS = "config.json", "model.safetensors"

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": jax.nn.gelu,
    "relu": jax.nn.relu,
}

# Ours -> Hugging Face's, first outside the layers and then within one.
_NAMES = {
    "embedding": "embeddings.word_embeddings",
    "place": "embeddings.position_embeddings",
    "type": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward/inner": "intermediate.dense",
    "feed_forward/outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_LEAVES = {"table": "weight", "kernel": "weight", "scale": "weight", "bias": "bias"}

# What a file holds beside the encoder: parts for tasks that it was first trained on.
_BESIDE = ("pooler.", "cls.", "embeddings.position_ids")


def read_bert(folder: str | os.PathLike[str]) -> tuple[TextEncoder, dict[str, Any]]:
    """Reads config.json and model.safetensors, as Hugging Face writes them.

    Returns: (model, parameters).
    Raises: OSError if a file is not there; ValueError if it is not that of a BERT with learned
      absolute positions, or they do not fit together.
    """
    folder = Path(folder)
    model = _model(folder / CONFIG)
    tensors = {
        name.removeprefix("bert."): tensor
        for name, tensor in read_safetensors(folder / WEIGHTS).items()
    }
    token_BS = np.zeros((1, 1), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), token_BS, token_BS == 0)["params"]
    params = fill(shapes, tensors, bert_name)
    if left := sorted(name for name in tensors if not name.startswith(_BESIDE)):
        raise ValueError(
            f"{folder / WEIGHTS} holds {left[0]!r} and {len(left) - 1} other tensors that a BERT "
            f"of {model.num_layers} layers has no place for. Give the config.json that belongs to "
            "it."
        )
    return model, params


def bert_name(path: tuple[str, ...]) -> str:
    """Returns Hugging Face's name of a parameter of a TextEncoder."""
    *parts, leaf = path
    layer = ""
    if parts[0] == "encoder":
        layer = f"encoder.layer.{parts[1].removeprefix('layer_')}."
        parts = parts[2:]
    return f"{layer}{_NAMES['/'.join(parts)]}.{_LEAVES[leaf]}"


def _model(path: Path) -> TextEncoder:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = config["model_type"], config.get("position_embedding_type", "absolute")
        if kind != ("bert", "absolute"):
            raise ValueError(
                f"{path} is of model_type={kind[0]!r} with {kind[1]!r} positions. Give a 'bert' "
                "with 'absolute' ones."
            )
        if config["hidden_act"] not in _ACTIVATIONS:
            raise ValueError(
                f"{path} has hidden_act={config['hidden_act']!r}, which is none of "
                f"{', '.join(_ACTIVATIONS)}."
            )
        return TextEncoder(
            vocab_size=config["vocab_size"],
            d_model=config["hidden_size"],
            d_ff=config["intermediate_size"],
            num_heads=config["num_attention_heads"],
            num_layers=config["num_hidden_layers"],
            max_length=config["max_position_embeddings"],
            num_types=config["type_vocab_size"],
            activation=_ACTIVATIONS[config["hidden_act"]],
            norm_epsilon=config["layer_norm_eps"],
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON, or it is damaged. Fetch it again.") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the config.json of a BERT: it lacks {error}.") from error
