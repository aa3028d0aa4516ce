"""Every setting has a type and a range, and what is outside is named."""

import copy
import re
import runpy
from pathlib import Path

import pytest

from jaxformer.cli import settings

BASE = Path(__file__).resolve().parent.parent.parent / "configs" / "base.py"

# Values that a kind does not accept.
BAD = {
    settings.SIZE: [0, -1, 2.0, True, "3", None],
    settings.COUNT: [-1, 2.0, False, "3"],
    settings.RATE: [-0.1, 1.0, 1, float("nan"), "0.1", None],
    settings.POSITIVE: [0, 0.0, -1.0, float("inf"), "1"],
    settings.NOT_NEGATIVE: [-1e-9, float("nan"), "1"],
    settings.DEVICES: [0, -2, 2.0, True, "3", None],
    settings.NUMBER: [float("inf"), "1", True],
    settings.SWITCH: [0, 1, "true", None],
    settings.TEXT: [None, 3],
    settings.DOTTED: ["name", "a.b.c", ":", "a:", ":b", "a b:c", ".a:b", "a..b:c", "a:b.", 3],
}


@pytest.fixture
def config():
    return runpy.run_path(str(BASE))["get_config"]().to_dict()


def test_base_is_in_order(config):
    settings.check(config)


@pytest.mark.parametrize("key", settings.KINDS)
def test_a_wrong_value_is_named(config, key):
    group, name = key.split(".")
    for value in BAD.get(settings.KINDS[key], ["nonsense", 3]):
        wrong = copy.deepcopy(config)
        wrong[group][name] = value
        with pytest.raises(ValueError, match=re.escape(f"{key}={value!r} is out of range. Set it")):
            settings.check(wrong)


@pytest.mark.parametrize("key", settings.KINDS)
def test_a_missing_setting_is_named(config, key):
    group, name = key.split(".")
    del config[group][name]
    with pytest.raises(ValueError, match=f"The setting '{key}' is missing"):
        settings.check(config)


def test_what_is_older_than_a_setting_has_what_it_did(config):
    wanted = config.pop("parallel")
    assert settings.complete(config) == {**config, "parallel": wanted}
    config["parallel"] = {**wanted, "fsdp": 2}
    assert settings.complete(config) == config
    assert settings.complete({"model": 3})["model"] == 3


def test_what_is_newer_than_a_config_json_has_the_default_of_base(config):
    older = {
        name: {
            key: value for key, value in group.items() if key not in settings._LATER.get(name, ())
        }
        for name, group in config.items()
    }
    assert older != config
    assert settings.complete(older) == config


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ({"model.d_model": 3}, "'model.d_model'"),
        ({"extra": {}}, "extra"),
        ({"extra": 3}, "extra"),
        ({"extra": {"a": {"b": 3}}}, "extra.a"),
    ],
)
def test_what_only_looks_like_a_setting_is_unknown(config, extra, key):
    with pytest.raises(ValueError, match=f"^Unknown setting {re.escape(repr(key))}"):
        settings.check({**config, **extra})


def test_a_vocabulary_has_more_than_what_every_one_holds(config):
    from jaxformer.data.sentence_piece import _FIXED_PIECES

    config["data"]["vocab_size"] = _FIXED_PIECES
    with pytest.raises(ValueError, match="data.vocab_size=260 is out of range"):
        settings.check(config)
    config["data"]["vocab_size"] = _FIXED_PIECES + 1
    settings.check(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bpe_dropout": 0.1, "vocab_type": "unigram"},
            "data.bpe_dropout=0.1 drops merges, and data.vocab_type='unigram' has none to drop. "
            "Set data.vocab_type to one of bpe, moses_bpe, or data.bpe_dropout=0.",
        ),
        (
            {"spellings": 8},
            "data.spellings=8 would all be the same, since data.bpe_dropout=0. "
            "Set data.bpe_dropout, or data.spellings=1.",
        ),
    ],
)
def test_spellings_that_there_cannot_be_are_refused(config, changes, message):
    config["data"].update(changes)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        settings.check(config)


def test_a_whole_number_will_do_for_a_number(config):
    config["train"]["dropout_rate"] = 0
    settings.check(config)
