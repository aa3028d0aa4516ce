"""The rows of Table 3: complete at either scale, scaled alike, the paper's where they say so."""

import ast
import runpy
from pathlib import Path

import pytest

from jaxformer.cli import build, config, settings
from jaxformer.cli.mistakes import Mistake
from jaxformer.model import parameter_count

FOLDER = Path(__file__).resolve().parent.parent.parent / "configs" / "table3"
# In the paper's order.
NAMES = ["base", "a_heads", "b_key_size", "c_size", "d_regularisation", "e_positions", "big"]
FILES = {name: runpy.run_path(str(FOLDER / f"{name}.py")) for name in NAMES}
ROWS = [
    (name, label, scale)
    for name in NAMES
    for label, scales in FILES[name]["ROWS"].items()
    for scale in scales
]


def get(name, label, scale):
    return config.load(f"{FOLDER / name}.py:{scale}/{label}").to_dict()


def model_of(name, label, scale):
    row = get(name, label, scale)
    vocab_size = 37_000 if scale == "paper" else row["data"]["vocab_size"]
    return build.make_model(row, vocab_size)


def count_of(name, label):
    model = model_of(name, label, "paper")
    fields = ("vocab_size", "d_model", "d_ff", "num_heads", "d_k", "d_v")
    layers = ("num_encoder_layers", "num_decoder_layers")
    return parameter_count(**{field: getattr(model, field) for field in (*fields, *layers)})


def test_all_files_are_known():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(NAMES)


@pytest.mark.parametrize("row", ROWS, ids="/".join)
def test_a_row_is_complete_and_builds(row, tmp_path, monkeypatch):
    # Siblings are found from any folder.
    monkeypatch.chdir(tmp_path)
    settings.check(get(*row))
    model_of(*row)
    build.make_rate(get(*row))


@pytest.mark.parametrize("row", ROWS, ids="/".join)
def test_a_row_differs_from_base_in_its_overrides_only(row):
    name, label, scale = row
    base, here = get("base", "base", scale), get(*row)
    changes = {
        f"{group}.{key}": value
        for group in base
        for key, value in here[group].items()
        if value != base[group][key]
    }
    assert changes == FILES[name]["ROWS"][label][scale]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_what_to_expect_and_has_the_papers_rows(name):
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source))
    for word in ("Command:", "Hardware:", "Time:", "Expected:"):
        assert f"\n{word} " in docstring, word
    rows, paper = FILES[name]["ROWS"], FILES[name]["PAPER"]
    assert list(rows) == list(paper)
    for label, scales in rows.items():
        # What the paper has is there at both scales, and only that.
        assert set(scales) == ({"paper", "laptop"} if paper[label] else {"laptop"})
        assert set(paper[label]) <= {"perplexity", "bleu", "parameters"}


def test_the_papers_figures_are_all_there():
    rows = [row for name in NAMES for row in FILES[name]["PAPER"].values() if row]
    assert len(rows) == 20
    # Sums of the columns of Table 3.
    assert round(sum(row["perplexity"] for row in rows), 2) == 101.87
    assert round(sum(row["bleu"] for row in rows), 1) == 507.7
    assert sum(row.get("parameters", 0) for row in rows) == 901e6


COUNTED = [
    (name, label)
    for name in NAMES
    for label, figures in FILES[name]["PAPER"].items()
    if "parameters" in figures
]


@pytest.mark.parametrize("row", COUNTED, ids="/".join)
def test_parameters_are_within_seven_percent_of_the_papers(row):
    name, label = row
    expected = FILES[name]["PAPER"][label]["parameters"]
    assert count_of(*row) == pytest.approx(expected, rel=0.07)


def test_parameters_are_in_the_papers_order():
    rows = [
        (FILES[name]["PAPER"][label]["parameters"], count_of(name, label))
        for name, label in COUNTED
    ]
    assert len(rows) == 11
    assert sorted(rows) == sorted(rows, key=lambda row: row[1])


def test_base_is_the_papers_without_averaging():
    whole = config.load(f"{FOLDER.parent / 'wmt14_en_de.py'}:base").to_dict()
    whole["decode"]["average"] = 1
    assert get("base", "base", "paper") == whole


SIZES = ("d_model", "d_ff", "num_heads", "num_encoder_layers", "num_decoder_layers", "d_k", "d_v")


@pytest.mark.parametrize(
    "row", [row[:2] for row in ROWS if row[2] == "paper" and row[1] != "h=1"], ids="/".join
)
def test_sizes_are_scaled_alike(row):
    of = {scale: model_of(*row, scale) for scale in ("paper", "laptop")}
    base = {scale: model_of("base", "base", scale) for scale in ("paper", "laptop")}
    for size in SIZES:
        factor = getattr(of["paper"], size) / getattr(base["paper"], size)
        expected = round(factor * getattr(base["laptop"], size))
        assert getattr(of["laptop"], size) == expected, size


@pytest.mark.parametrize("row", [row[:2] for row in ROWS if row[2] == "paper"], ids="/".join)
def test_rates_are_not_scaled(row):
    paper, laptop = (get(*row, scale)["train"] for scale in ("paper", "laptop"))
    for rate in ("dropout_rate", "label_smoothing"):
        assert paper[rate] == laptop[rate], rate


def test_one_head_is_one_head():
    for scale in ("paper", "laptop"):
        model = model_of("a_heads", "h=1", scale)
        assert (model.num_heads, model.d_k, model.d_v) == (1, model.d_model, model.d_model)


def test_a_laptops_rows_have_one_budget():
    base = get("base", "base", "laptop")
    assert base["train"]["num_steps"] >= 3000
    assert 5 * base["optimizer"]["warmup_steps"] <= base["train"]["num_steps"]
    for row in ROWS:
        if row[2] == "laptop":
            here = get(*row)
            assert (here["data"], here["optimizer"]) == (base["data"], base["optimizer"])
            assert here["train"]["num_steps"] == base["train"]["num_steps"]


MISTAKES = {
    "d_k=17": "needs a scale and a row, such as laptop/d_k=16; got 'd_k=17'.",
    "laptop/d_k=17": "Unknown row 'd_k=17' in table3/b_key_size.py; its rows are d_k=16, d_k=32.",
    "lap/d_k=16": "Unknown scale 'lap' in table3/b_key_size.py; its scales are paper, laptop.",
}


@pytest.mark.parametrize("arg", MISTAKES)
def test_a_typo_in_a_row_is_one_sentence(arg):
    with pytest.raises(Mistake) as raised:
        config.load(f"{FOLDER / 'b_key_size.py'}:{arg}")
    assert str(raised.value).endswith(MISTAKES[arg])


def test_a_row_of_the_other_scale_is_one_sentence():
    with pytest.raises(Mistake, match="is not for scale 'paper'; it is for laptop."):
        config.load(f"{FOLDER / 'd_regularisation.py'}:paper/dropout=0.3")
