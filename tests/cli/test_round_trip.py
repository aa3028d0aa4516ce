"""Settings on their way from the command line to config.json and back: none is changed."""

import json
import re
import runpy
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.mistakes import Mistake
from jaxformer.cli.trained import read_settings
from jaxformer.io.record import check_config, read_config, write_config

BASE = Path(__file__).resolve().parent.parent.parent / "configs" / "base.py"
WORDS = st.text(st.characters(codec="utf-8"))
NAMES = st.from_regex(r"\w+(\.\w+){0,2}", fullmatch=True)

# Of each kind of setting: values that it may have.
GOOD = {
    settings.SIZE: st.integers(1, 2**31 - 1),
    settings.COUNT: st.integers(0, 2**31 - 1),
    settings.RATE: st.floats(0, 1, exclude_max=True),
    settings.POSITIVE: st.floats(0, exclude_min=True, allow_infinity=False),
    settings.NOT_NEGATIVE: st.floats(0, allow_infinity=False),
    settings.NUMBER: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    settings.DEVICES: st.just(-1) | st.integers(1, 2**31 - 1),
    settings.SWITCH: st.booleans(),
    settings.VOCABULARY: st.integers(261, 2**31 - 1),
    settings.TEXT: WORDS,
    settings.DOTTED: st.builds("{}:{}".format, NAMES, NAMES),
}


def good(kind):
    """Returns the strategy of a kind; some kinds are lists of names."""
    names = kind.wanted.removeprefix("one of ").split(", ")
    return GOOD[kind] if kind in GOOD else st.sampled_from(names)


CHANGES = st.fixed_dictionaries(
    {}, optional={key: good(kind) for key, kind in settings.KINDS.items()}
)


def base():
    return runpy.run_path(str(BASE))["get_config"]()


def arguments(changes):
    """Returns the words of a command line that make these changes."""
    return [f"--config.{key}={value}" for key, value in changes.items()]


def fault_of(tree, assignments=()):
    """Returns what is wrong with the settings, after these assignments; "" if nothing is."""
    try:
        config_lib.override(tree, assignments)
        settings.check(tree.to_dict())
    except (Mistake, ValueError) as error:
        return str(error)
    return ""


@given(CHANGES)
@example({"decode.checkpoint": "best"})
@example({"decode.average": 9})
@example({"train.patience": 3, "train.eval_every": 0})
@example({"data.spellings": 2})
@example({"data.bpe_dropout": 0.1, "data.vocab_type": "unigram"})
def test_settings_come_back_as_they_were_given(tmp_path_factory, changes):
    workdir = tmp_path_factory.mktemp("run")
    tree = base()
    _, assignments, rest = config_lib.split_arguments(arguments(changes))
    assert rest == []
    assert config_lib.override(tree, assignments) == changes
    fault = fault_of(tree)
    if fault:
        # Some do not go together.
        assert fault.startswith(
            (
                "train.patience",
                "train.keep_checkpoints",
                "decode.checkpoint='best'",
                "data.bpe_dropout",
                "data.spellings",
            )
        )
        return
    write_config(workdir, tree.to_dict())
    # Text tells 1 from 1.0 and from true.
    assert json.dumps(read_config(workdir)) == json.dumps(tree.to_dict(), sort_keys=True)
    assert check_config(workdir, tree.to_dict()) == tree.to_dict()
    found = read_settings(workdir, [])
    for name in ("data_dir", "manual_dir", *config_lib._FILES):
        # Paths that exist become absolute.
        if Path(found["data"][name]).is_absolute():
            found["data"][name] = tree.data[name]
    found["train"]["keep_checkpoints"] = tree.train.keep_checkpoints
    assert found == tree.to_dict()


@given(st.lists(st.tuples(st.sampled_from([*settings.KINDS, "model", "", "a.b"]), st.text())))
def test_any_text_is_a_setting_or_a_mistake(assignments):
    fault = fault_of(base(), assignments)
    assert not fault or len(fault) > 15


@pytest.mark.parametrize("text", ["9" * 400, "-" + "9" * 400, "9" * 5000, str(2**31)])
@pytest.mark.parametrize("key", ["model.d_model", "train.seed", "train.num_steps"])
def test_a_number_without_measure_is_a_mistake(key, text):
    fault = fault_of(base(), [(key, text)])
    assert re.match(f"{key}=.* (is out of range|is not a whole number)", fault)


def test_a_number_of_json_that_no_float_holds_is_a_mistake():
    tree = base().to_dict()
    for value in (10**400, -(10**400)):
        tree["decode"]["alpha"] = value
        with pytest.raises(ValueError, match=r"decode\.alpha=.* is out of range"):
            settings.check(tree)
