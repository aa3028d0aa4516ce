"""From settings to the library's objects: the only place that knows both.

Every function takes a nested dict that `settings.check` has passed, from a config file or from a
workdir's config.json.
"""

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxformer.data.corpus import Corpus, check_corpus, open_corpus
from jaxformer.data.prepare import default_data_dir
from jaxformer.decode.penalty import LengthPenalty, penalty_table
from jaxformer.files import user_path
from jaxformer.model import Learned, Residual, Transformer, restricted_attention
from jaxformer.optim import scale_by_paper_adam
from jaxformer.sharding import make_abstract_mesh, state_shardings
from jaxformer.train import Hyper, Rate

Config = Mapping[str, Any]

SPLITS = ("train", "valid", "test")


def resolve(key: str, name: str) -> Any:
    """Imports what "package.module:name" names.

    Args:
      key: the setting, for messages.
      name: its value.

    Raises: ValueError if there is no such module or no such name in it. A module that fails while
      it is imported keeps its own error.
    """
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"{key}={name!r}: there is no module {error.name!r}. Correct the name, or put the "
            "module's folder on PYTHONPATH."
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"{key}={name!r}: {module_name} has no {attribute!r}. Correct the name."
            )
        found = getattr(found, part)
    return found


def _resolve_function(key: str, name: str) -> Any:
    found = resolve(key, name)
    if not callable(found):
        raise ValueError(f"{key}={name!r} is no function but {found!r}. Name one that is called.")
    return found


def make_model(config: Config, vocab_size: int) -> Transformer:
    """Returns the model for a vocabulary.

    Raises: ValueError if the heads' widths do not come out even, a dotted name does not exist, or
      settings do not fit each other.
    """
    model = config["model"]
    widths = {}
    for name in ("d_k", "d_v"):
        if model[name] == 0 and model["d_model"] % model["num_heads"]:
            raise ValueError(
                f"d_model={model['d_model']} is not divisible by num_heads={model['num_heads']}. "
                "Set model.d_k and model.d_v, or choose a multiple of "
                f"{model['num_heads']}."
            )
        widths[name] = model[name] or model["d_model"] // model["num_heads"]
    parts = {
        field: _resolve_function(f"model.{name}", model[name])
        for field, name in (
            ("attend", "attention"),
            ("positions", "positions"),
            ("activation", "activation"),
        )
    }
    parts["residual"] = resolve("model.residual", model["residual"])
    if not isinstance(parts["residual"], Residual):
        raise ValueError(
            f"model.residual={model['residual']} is no Residual. Name one, such as post_norm or "
            "pre_norm of jaxformer.model."
        )
    if parts["positions"] is Learned and model["max_length"] < config["data"]["max_length"]:
        raise ValueError(
            f"model.max_length={model['max_length']} learned positions do not hold sentences of "
            f"data.max_length={config['data']['max_length']} tokens. Raise model.max_length to "
            "that, or lower data.max_length."
        )
    if parts["attend"] is restricted_attention and not model["attention_window"]:
        raise ValueError(
            "model.attention_window=0 restricts nothing, which restricted_attention is for. Set "
            "model.attention_window to the positions that a token sees on either side, itself "
            "counted, or leave model.attention as it is in configs/base.py."
        )
    return Transformer(
        vocab_size=vocab_size,
        d_model=model["d_model"],
        d_ff=model["d_ff"],
        num_heads=model["num_heads"],
        num_encoder_layers=model["num_encoder_layers"],
        num_decoder_layers=model["num_decoder_layers"],
        vocab_multiple=model["vocab_multiple"],
        max_length=model["max_length"],
        attention_window=model["attention_window"] or None,
        attention_bias=model["attention_bias"],
        norm_epsilon=model["norm_epsilon"],
        dtype=jnp.dtype(model["dtype"]),
        product_dtype=jnp.dtype(model["product_dtype"]) if model["product_dtype"] else None,
        remat=model["remat"],
        scan_layers=model["scan_layers"],
        **widths,
        **parts,
    )


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Returns Adam's direction; the learning rate is applied by the step."""
    optimizer = config["optimizer"]
    return scale_by_paper_adam(
        beta1=optimizer["beta1"],
        beta2=optimizer["beta2"],
        epsilon=optimizer["epsilon"],
        clip_norm=optimizer["clip_norm"],
        weight_decay=optimizer["weight_decay"],
    )


def make_rate(config: Config) -> Rate:
    """Returns (step, hyper) -> learning rate.

    Raises: ValueError if the schedule's dotted name does not exist.
    """
    schedule = _resolve_function("optimizer.schedule", config["optimizer"]["schedule"])
    d_model, num_steps = config["model"]["d_model"], config["train"]["num_steps"]

    def rate(step: jax.Array, hyper: Hyper) -> jax.Array:
        return hyper.learning_rate * schedule(
            step, d_model=d_model, warmup_steps=hyper.warmup_steps, num_steps=num_steps
        )

    return rate


def make_hyper(config: Config) -> Hyper:
    """Returns what may vary without another program."""
    return Hyper.create(
        dropout_rate=config["train"]["dropout_rate"],
        label_smoothing=config["train"]["label_smoothing"],
        learning_rate=config["optimizer"]["learning_rate"],
        warmup_steps=config["optimizer"]["warmup_steps"],
    )


def make_length_penalty(config: Config) -> LengthPenalty:
    """Returns what the search divides log probabilities by.

    Raises: ValueError if its dotted name does not exist, or it does not give each length its own.
    """
    name = config["decode"]["length_penalty"]
    length_penalty = _resolve_function("decode.length_penalty", name)
    try:
        jax.eval_shape(lambda alpha: penalty_table(length_penalty, 2, alpha), 1.0)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"decode.length_penalty={name} is no function of (length_T, alpha): {error}"
        ) from error
    return length_penalty


def named_splits(config: Config) -> list[str]:
    """Returns the splits that the settings name files for; [] if the corpus has its own."""
    data = config["data"]
    if data["corpus"] not in ("plain_text", "treebank"):
        return []
    return [split for split in SPLITS if data[f"{split}_source"] or data[f"{split}_target"]]


def check_elsewhere(config: Config, num_devices: int) -> None:
    """Finds what a training would fail of on so many devices, without them and without the text.

    Raises: ValueError or OSError as `check_corpus`, `make_abstract_mesh` and `state_shardings`, or
      as `make_model`, `make_rate` and `make_length_penalty`.
    """
    data, vocab_multiple = config["data"], config["model"]["vocab_multiple"]
    model = make_model(config, num_devices * vocab_multiple)
    make_rate(config)
    make_length_penalty(config)
    mesh = make_abstract_mesh(**config["parallel"], num_devices=num_devices)
    if mesh.shape["data"] < num_devices:
        # Imported late: few need it.
        from jaxformer.run.restoring import abstract_params

        state_shardings(abstract_params(model), mesh)
    check_corpus(data["corpus"], manual_dir=data["manual_dir"], **_corpus_options(config, SPLITS))


def make_corpus(config: Config, splits: Collection[str] = SPLITS) -> Corpus:
    """Opens the corpus, preparing it if that has not been done yet.

    Args:
      splits: those that will be read; files that the settings name for others need not be there.

    Raises: ValueError or OSError as `open_corpus`; ValueError if there are files for other splits
      only.
    """
    data = config["data"]
    named = named_splits(config)
    if named and not set(named) & set(splits):
        raise ValueError(
            f"Corpus {data['corpus']!r} has no split {', '.join(map(repr, splits))}; it has "
            f"{', '.join(named)}."
        )
    return open_corpus(
        data["corpus"],
        data_dir=data["data_dir"] or None,
        manual_dir=data["manual_dir"] or None,
        **_corpus_options(config, splits if named else SPLITS),
    )


def cache_dir(config: Config) -> Path:
    """Returns the folder of what is made from prepared text once."""
    data_dir = config["data"]["data_dir"]
    return (user_path(data_dir) if data_dir else default_data_dir()) / "encoded"


def _corpus_options(config: Config, splits: Collection[str]) -> dict[str, str]:
    """Returns the languages, and the files of some splits."""
    data = config["data"]
    files = {
        f"{split}_{side}": data[f"{split}_{side}"] if split in splits else ""
        for split in SPLITS
        for side in ("source", "target")
    }
    return {"source": data["source"], "target": data["target"], **files}
