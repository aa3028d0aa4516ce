"""A model as CTranslate2 reads it: the same weights in that library's Transformer.

Its matrices are [outputs, inputs], with heads side by side, and what reads the same input is one
matrix. Biases that a model lacks are left out. Positions are a table, since CTranslate2 counts its
own sinusoids in another order.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxformer.model import Transformer, dot_product_attention, post_norm, pre_norm
from jaxformer.model.tokens import BOS, EOS, UNK

Params = Mapping[str, Any]

# CTranslate2's names of activations.
_ACTIVATIONS = ((jax.nn.relu, "RELU"), (jax.nn.gelu, "GELUTanh"), (jax.nn.silu, "SWISH"))

# CTranslate2 cuts inputs to so many tokens unless it is told otherwise.
_MAX_INPUT = 1024


def save(
    model: Transformer,
    params: Params,
    pieces: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    longest: int,
) -> None:
    """Writes model.bin, config.json and shared_vocabulary.json into `folder`.

    Args:
      pieces: the vocabulary, in the order of the ids.
      longest: tokens of an input or output for which there shall be positions; 1,024 at least.

    Raises: ValueError if CTranslate2 is not installed, or has no such model.
    """
    _check(model)
    common, transformer = _specs()
    spec = transformer.TransformerSpec.from_config(
        (model.num_encoder_layers, model.num_decoder_layers),
        model.num_heads,
        pre_norm=model.residual == pre_norm,
        activation=getattr(common.Activation, _activation(model)),
    )
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = (
        pieces[token] for token in (UNK, BOS, EOS)
    )
    spec.config.decoder_start_token = pieces[BOS]
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = model.norm_epsilon
    table_WD = _array(params["embedding"]["table"])[: model.vocab_size]
    sides = (
        (spec.encoder, "encoder", spec.encoder.embeddings[0]),
        (spec.decoder, "decoder", spec.decoder.embeddings),
    )
    for stack, name, embeddings in sides:
        embeddings.weight = table_WD
        positions = "source_positions" if name == "encoder" else "target_positions"
        stack.position_encodings.encodings = _positions(
            model, params.get(positions, {}), max(longest, _MAX_INPUT)
        )
        for number, layer in enumerate(stack.layer):
            _set_layer(layer, params[name][f"layer_{number}"])
        if model.residual.final_norm:
            _set_norm(stack.layer_norm, params[name]["norm"])
    spec.decoder.projection.weight = table_WD
    spec.register_source_vocabulary(list(pieces))
    spec.register_target_vocabulary(list(pieces))
    spec.validate()
    # Arrays that are there twice are written once.
    spec.optimize()
    spec.save(os.fspath(folder))


def _specs() -> tuple[Any, Any]:
    try:
        from ctranslate2.specs import common_spec, transformer_spec
    except ImportError as error:
        raise ValueError(
            "This format needs ctranslate2, which is not installed. Install jaxformer[export]."
        ) from error
    return common_spec, transformer_spec


def _check(model: Transformer) -> None:
    """Raises: ValueError if CTranslate2's Transformer cannot be this model."""
    d_head = model.d_model / model.num_heads
    faults = {
        "an attention function of its own": model.attend is not dot_product_attention,
        "a residual that is neither post-norm nor pre-norm": (
            model.residual not in (post_norm, pre_norm)
        ),
        f"an activation other than {', '.join(name for _, name in _ACTIVATIONS)}": (
            not _activation(model)
        ),
        f"heads of width {model.d_k} and {model.d_v} instead of d_model / num_heads": (
            not model.d_k == model.d_v == d_head
        ),
        "a window of attention": model.attention_window is not None,
        "a stack without layers": not (model.num_encoder_layers and model.num_decoder_layers),
    }
    for fault, found in faults.items():
        if found:
            raise ValueError(
                f"The model has {fault}, which CTranslate2 does not know. Export it as safetensors."
            )


def _activation(model: Transformer) -> str:
    return next((name for known, name in _ACTIVATIONS if model.activation is known), "")


def _positions(model: Transformer, params: Params, rows: int) -> np.ndarray:
    """Returns what is added to the embeddings at each position."""
    positions = model.positions(
        d_model=model.d_model, max_length=model.max_length, dtype=jnp.float32
    )
    encoding_1TD = positions.apply({"params": params}, jnp.arange(rows)[None])
    return np.array(jnp.broadcast_to(encoding_1TD[0], (rows, model.d_model)))


def _set_layer(spec: Any, params: Params) -> None:
    """Fills a layer of either stack."""
    attention = params["attention"]
    _set_linear(spec.self_attention.linear[0], *map(attention.get, ("query", "key", "value")))
    _set_linear(spec.self_attention.linear[1], attention["out"], num_inputs=2)
    _set_norm(spec.self_attention.layer_norm, params["attention_norm"])
    if "cross_attention" in params:
        attention = params["cross_attention"]
        _set_linear(spec.attention.linear[0], attention["query"])
        _set_linear(spec.attention.linear[1], attention["key"], attention["value"])
        _set_linear(spec.attention.linear[2], attention["out"], num_inputs=2)
        _set_norm(spec.attention.layer_norm, params["cross_attention_norm"])
    _set_linear(spec.ffn.linear_0, params["feed_forward"]["inner"])
    _set_linear(spec.ffn.linear_1, params["feed_forward"]["outer"])
    _set_norm(spec.ffn.layer_norm, params["feed_forward_norm"])


def _set_linear(spec: Any, *parts: Params, num_inputs: int = 1) -> None:
    """Fills one matrix with the outputs of all `parts`, whose first axes are the input's."""
    weights = []
    for part in parts:
        kernel = _array(part["kernel"])
        width = int(np.prod(kernel.shape[:num_inputs]))
        weights.append(kernel.reshape(width, -1).T)
    spec.weight = np.ascontiguousarray(np.concatenate(weights))
    if "bias" in parts[0]:
        spec.bias = np.concatenate([_array(part["bias"]).reshape(-1) for part in parts])


def _set_norm(spec: Any, params: Params) -> None:
    spec.gamma, spec.beta = _array(params["scale"]), _array(params["bias"])


def _array(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.float32)
