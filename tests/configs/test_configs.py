"""The shipped configs: data only, complete, documented, and the paper's where they say so."""

import ast
import runpy
from pathlib import Path

import pytest

from jaxformer.cli import build, config, settings
from jaxformer.model import parameter_count

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
FILES = sorted(CONFIGS.glob("*.py"))
BIG = [f"{CONFIGS / name}:big" for name in ("wmt14_en_de.py", "wmt14_en_fr.py")]
SPECS = [*map(str, FILES), *BIG]


def get(spec):
    return config.load(spec).to_dict()


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: Path(spec).name)
def test_a_config_is_complete_and_builds(spec, tmp_path, monkeypatch):
    # Siblings are found from any folder.
    monkeypatch.chdir(tmp_path)
    settings.check(get(spec))
    build.make_model(get(spec), get(spec)["data"]["vocab_size"])
    build.make_rate(get(spec))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_config_says_what_to_expect(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    for word in ("Command:", "Hardware:", "Time:", "Expected:"):
        assert f"\n{word} " in docstring, word


def test_every_field_of_base_has_a_comment():
    lines = (CONFIGS / "base.py").read_text(encoding="utf-8").splitlines()
    has_comment = False
    for line in lines:
        text = line.strip()
        is_field = text.partition(".")[0] in {
            *("model", "optimizer", "data", "train", "decode", "parallel")
        }
        if text.startswith("#"):
            has_comment = True
        elif not (is_field and " = " in text):
            has_comment = False
        else:
            assert has_comment or "ConfigDict()" in text, text


def test_base_and_big_are_the_papers():
    for spec, d_model, heads, dropout, steps, millions in (
        ("wmt14_en_de.py:base", 512, 8, 0.1, 100_000, 63.0),
        ("wmt14_en_de.py:big", 1024, 16, 0.3, 300_000, 214.2),
    ):
        base = get(f"{CONFIGS}/{spec}")
        model = build.make_model(base, base["data"]["vocab_size"])
        assert (model.d_model, model.num_heads, model.d_k, model.d_v) == (d_model, heads, 64, 64)
        assert (base["train"]["dropout_rate"], base["train"]["num_steps"]) == (dropout, steps)
        names = ("vocab_size", "d_model", "d_ff", "num_heads", "d_k", "d_v")
        layers = ("num_encoder_layers", "num_decoder_layers")
        count = parameter_count(**{name: getattr(model, name) for name in (*names, *layers)})
        assert round(count / 1e6, 1) == millions
    # The paper's exception (6.1).
    assert get(f"{CONFIGS}/wmt14_en_fr.py:big")["train"]["dropout_rate"] == 0.1
    assert get(f"{CONFIGS}/wmt14_en_fr.py:big")["model"]["d_model"] == 1024


def test_configs_share_nothing():
    get_config = runpy.run_path(str(CONFIGS / "base.py"))["get_config"]
    first = get_config()
    first.model.d_model = 3
    assert get_config().model.d_model == 512
