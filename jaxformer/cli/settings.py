"""What every setting may be: the type and range of each field of configs/base.py."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxformer.cli.config import dotted_keys, suggestion

_TOO_MUCH = 2**31
_DOTTED_NAME = r"\w+(\.\w+)*:\w+(\.\w+)*"


class Kind(NamedTuple):
    """The values that a setting may have, and how a sentence names them."""

    accepts: Callable[[Any], bool]
    wanted: str


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _one_of(*names: str) -> Kind:
    return Kind(lambda value: value in names, f"one of {', '.join(names)}")


SIZE = Kind(lambda value: _is_whole(value) and value >= 1, "a whole number of 1 or more")
COUNT = Kind(lambda value: _is_whole(value) and value >= 0, "a whole number of 0 or more")
RATE = Kind(lambda value: _is_number(value) and 0 <= value < 1, "a number from 0 to below 1")
POSITIVE = Kind(lambda value: _is_number(value) and value > 0, "a number above 0")
NOT_NEGATIVE = Kind(lambda value: _is_number(value) and value >= 0, "a number of 0 or more")
DEVICES = Kind(
    lambda value: _is_whole(value) and (value >= 1 or value == -1),
    "a whole number of 1 or more, or -1 for what is left",
)
NUMBER = Kind(_is_number, "a number")
SWITCH = Kind(lambda value: isinstance(value, bool), "true or false")
# As in data/sentence_piece.py, whose import would make a mistake wait.
VOCABULARY = Kind(
    lambda value: _is_whole(value) and value > 260,
    "a whole number above 260, which the special tokens and the bytes alone take",
)
TEXT = Kind(lambda value: isinstance(value, str), "text")
DOTTED = Kind(
    lambda value: isinstance(value, str) and re.fullmatch(_DOTTED_NAME, value) is not None,
    "a name of the form package.module:name",
)

KINDS = {
    "model.d_model": SIZE,
    "model.d_ff": SIZE,
    "model.num_heads": SIZE,
    "model.d_k": COUNT,
    "model.d_v": COUNT,
    "model.num_encoder_layers": SIZE,
    "model.num_decoder_layers": SIZE,
    "model.attention": DOTTED,
    "model.attention_window": COUNT,
    "model.residual": DOTTED,
    "model.positions": DOTTED,
    "model.activation": DOTTED,
    "model.attention_bias": SWITCH,
    "model.norm_epsilon": POSITIVE,
    "model.max_length": SIZE,
    "model.vocab_multiple": SIZE,
    "model.dtype": _one_of("float32", "bfloat16"),
    "model.product_dtype": _one_of("", "float32", "bfloat16"),
    "model.remat": _one_of("none", "full", "dots"),
    "model.scan_layers": SWITCH,
    "optimizer.schedule": DOTTED,
    "optimizer.learning_rate": POSITIVE,
    "optimizer.warmup_steps": SIZE,
    "optimizer.beta1": RATE,
    "optimizer.beta2": RATE,
    "optimizer.epsilon": POSITIVE,
    "optimizer.clip_norm": NOT_NEGATIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "data.corpus": TEXT,
    "data.source": TEXT,
    "data.target": TEXT,
    "data.data_dir": TEXT,
    "data.manual_dir": TEXT,
    "data.train_source": TEXT,
    "data.train_target": TEXT,
    "data.valid_source": TEXT,
    "data.valid_target": TEXT,
    "data.test_source": TEXT,
    "data.test_target": TEXT,
    "data.vocab_size": VOCABULARY,
    "data.vocab_type": _one_of("bpe", "unigram", "word", "char", "moses_bpe", "brackets"),
    "data.bpe_dropout": RATE,
    "data.spellings": SIZE,
    "data.max_length": SIZE,
    "data.source_tokens": SIZE,
    "data.target_tokens": SIZE,
    "train.num_steps": SIZE,
    "train.dropout_rate": RATE,
    "train.label_smoothing": RATE,
    "train.accumulate": SIZE,
    "train.seed": COUNT,
    "train.not_finite": _one_of("stop", "skip"),
    "train.log_every": COUNT,
    "train.eval_every": COUNT,
    "train.patience": COUNT,
    "train.checkpoint_every": COUNT,
    "train.keep_checkpoints": SIZE,
    "decode.num_beams": SIZE,
    "decode.length_penalty": DOTTED,
    "decode.alpha": NUMBER,
    "decode.extra_length": COUNT,
    "decode.average": SIZE,
    "decode.checkpoint": _one_of("newest", "best"),
    "decode.batch_tokens": SIZE,
    "parallel.data": DEVICES,
    "parallel.fsdp": DEVICES,
    "parallel.tensor": DEVICES,
}

# Types of vocabularies that data.bpe_dropout has a meaning for.
_OF_MERGES = ("bpe", "moses_bpe")

# What a config.json lacks that is older than these settings, with the values of what it did.
_LATER = {
    "model": {
        "attention_window": 0,
        "product_dtype": "",
        "remat": "none",
        "scan_layers": False,
    },
    "optimizer": {"weight_decay": 0.0},
    "data": {"bpe_dropout": 0.0, "spellings": 1},
    "train": {"not_finite": "stop", "patience": 0},
    "decode": {
        "length_penalty": "jaxformer.decode.penalty:gnmt_penalty",
        "checkpoint": "newest",
    },
    "parallel": {"data": -1, "fsdp": 1, "tensor": 1},
}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a config.json, with those that there were not when it was written."""
    groups = {
        name: {**later, **group}
        for name, later in _LATER.items()
        if isinstance(group := config.get(name, {}), Mapping)
    }
    return {**config, **groups}


def check_value(key: str, value: Any) -> None:
    """Raises: ValueError, naming the dotted key, if its value is not what it may be."""
    if not KINDS[key].accepts(value):
        raise ValueError(f"{key}={value!r} is out of range. Set it to {KINDS[key].wanted}.")
    # Steps and seeds are 32 bits in a program, which would drop the others without a word.
    if _is_whole(value) and abs(value) >= _TOO_MUCH:
        raise ValueError(
            f"{key}={value!r} is out of range. Set it to {KINDS[key].wanted}, and less than "
            f"{_TOO_MUCH}."
        )


def check(config: Mapping[str, Any]) -> None:
    """Checks the settings of a config file or of a config.json.

    Raises: ValueError, naming the dotted key, if one is unknown, missing, or not what it may be.
    """
    found = set(dotted_keys(config))
    for key in sorted(found - KINDS.keys()):
        raise ValueError(f"Unknown setting {key!r}.{suggestion(key, KINDS)}")
    for key in KINDS:
        if key not in found:
            raise ValueError(f"The setting {key!r} is missing. Build on configs/base.py.")
        group, name = key.split(".")
        check_value(key, config[group][name])
    if config["train"]["patience"] and not config["train"]["eval_every"]:
        raise ValueError(
            f"train.patience={config['train']['patience']} counts evaluations, and "
            "train.eval_every=0 makes none. Set train.eval_every, or train.patience=0."
        )
    data = config["data"]
    if data["bpe_dropout"] and data["vocab_type"] not in _OF_MERGES:
        raise ValueError(
            f"data.bpe_dropout={data['bpe_dropout']} drops merges, and data.vocab_type="
            f"{data['vocab_type']!r} has none to drop. Set data.vocab_type to one of "
            f"{', '.join(_OF_MERGES)}, or data.bpe_dropout=0."
        )
    if data["spellings"] > 1 and not data["bpe_dropout"]:
        raise ValueError(
            f"data.spellings={data['spellings']} would all be the same, since data.bpe_dropout=0. "
            "Set data.bpe_dropout, or data.spellings=1."
        )
    keep, average = config["train"]["keep_checkpoints"], config["decode"]["average"]
    if keep < average:
        raise ValueError(
            f"train.keep_checkpoints={keep} keeps fewer checkpoints than decode.average={average} "
            f"reads. Raise the one or lower the other."
        )
    if config["decode"]["checkpoint"] == "best" and average > 1:
        raise ValueError(
            f"decode.checkpoint='best' reads one checkpoint, and decode.average={average} asks for "
            "the mean of as many. Set decode.average=1, or decode.checkpoint='newest'."
        )
