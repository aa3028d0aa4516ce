"""`jaxformer attention` on the tiny model, and experiments/attention_maps.py."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxformer.io.score import score

SCRIPT = Path(__file__).resolve().parent.parent.parent / "experiments" / "attention_maps.py"
KINDS = ["encoder", "decoder", "cross"]
PICTURES = {f"{kind}_layer1_{what}.png" for kind in KINDS for what in ("links", "heads")}


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.findall(r'id="data">(.*?)</script', text, re.S)[0])


def test_a_sentence_is_drawn_with_the_model_s_translation(trained, jaxformer, tmp_path):
    workdir, _ = trained
    output = tmp_path / "new" / "folder"
    result = jaxformer(
        "attention", f"--workdir={workdir}", f"--output={output}", "--num_beams=1", "an bee\ncan"
    )
    assert (result.code, result.err) == (0, "")
    assert {path.name for path in output.iterdir()} == {"attention.html", *PICTURES}
    for name in PICTURES:
        assert (output / name).read_bytes().startswith(b"\x89PNG")
    data = data_of(output / "attention.html")
    assert data["source"] == "an bee can"
    assert len(data["maps"]["cross"]["queries"]) > 1
    lines = result.out.splitlines()
    assert lines[0] == "source   an bee can"
    assert lines[1] == f"target   {data['target']} (the model's own)"
    assert lines[2].startswith(f"written  {output}/: attention.html, encoder_layer1_links.png, ")
    assert list(data["maps"]) == KINDS
    for found in data["maps"].values():
        size = len(found["queries"]) * len(found["keys"])
        # One layer of two heads, whose rows are shares.
        assert [[len(weights) for weights in heads] for heads in found["layers"]] == [[size, size]]
        rows = np.array(found["layers"]).reshape(-1, len(found["keys"]))
        assert np.abs(rows.sum(1) - 1000).max() <= len(found["keys"])


def test_a_target_a_layer_and_a_word_can_be_given(trained, jaxformer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Unquoted words are a sentence as well.
    result = jaxformer(
        "attention", f"--workdir={trained[0]}", "--output=here", "--target=can bee <b>",
        "--layer=1", "--word=bee", "an", "bee", "can",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[:2] == ["source   an bee can", "target   can bee <b>"]
    words = {f"{kind}_layer1_word.png" for kind in KINDS}
    assert {path.name for path in Path("here").iterdir()} == {"attention.html", *PICTURES, *words}
    data = data_of(Path("here/attention.html"))
    assert data["target"] == "can bee <b>"
    assert data["maps"]["cross"]["queries"][-1] == "</s>"
    assert data["maps"]["decoder"]["keys"][0] == "<s>"


def test_every_layer_can_be_drawn_at_once(trained, jaxformer, tmp_path):
    output = tmp_path / "all"
    result = jaxformer(
        "attention", f"--workdir={trained[0]}", f"--output={output}", "--layer=all", "an",
        "--target=an",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    assert {path.name for path in output.iterdir()} == {"attention.html", *PICTURES}


def test_the_workdir_is_the_default_place(trained, jaxformer, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    result = jaxformer("attention", f"--workdir={workdir}", "an", "--target=an")
    assert result.code == 0
    assert (workdir / "attention" / "attention.html").is_file()


MISTAKES = {
    "no sentence": (
        [],
        'The sentence is empty. Give one: jaxformer attention --workdir=runs/name "A sentence."',
    ),
    "a blank sentence": (
        [" \n\t"],
        'The sentence is empty. Give one: jaxformer attention --workdir=runs/name "A sentence."',
    ),
    "an empty target": (
        ["an", "--target="],
        "The target is empty. Give its words, or leave --target out for the model's own "
        "translation.",
    ),
    "not UTF-8": (["an \udcff"], "The sentence is not UTF-8. Convert it to UTF-8."),
    "too long": (
        ["an bee " * 40],
        "The source sentence has 81 tokens, more than the 80 of the longest sentences that the "
        "model was trained on. Give a shorter one, or a part of it.",
    ),
    "no such layer": (
        ["an", "--layer=2"],
        "--layer=2: the model has 1 encoder and 1 decoder layers. Give one of them.",
    ),
    "no layer": (
        ["an", "--layer=0"],
        "Argument --layer: '0' is not a whole number of 1 or more, nor 'all'. See jaxformer "
        "attention --help.",
    ),
    "no such word": (
        ["an bee", "--target=bee an", "--word=cat"],
        "--word='cat' is not in the sentences. Give one of </s>, an, bee.",
    ),
    "an output that is a file": (["an", "--output=file"], "'file': File exists."),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(trained, jaxformer, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    arguments, message = MISTAKES[name]
    if not any(argument.startswith("--output") for argument in arguments):
        arguments = [*arguments, "--output=here"]
    result = jaxformer("attention", f"--workdir={trained[0]}", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {message}\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "file"]


def test_a_layer_that_one_stack_lacks_is_drawn_of_the_other():
    from jaxformer.cli.attention import _layers

    config = {"model": {"num_encoder_layers": 3, "num_decoder_layers": 2}}
    assert _layers(config, None) == {"encoder": [3], "decoder": [2], "cross": [2]}
    assert _layers(config, 2) == {"encoder": [2], "decoder": [2], "cross": [2]}
    assert _layers(config, 3) == {"encoder": [3]}
    both = [1, 2]
    assert _layers(config, "all") == {"encoder": [1, 2, 3], "decoder": both, "cross": both}


@pytest.fixture
def attention_maps(monkeypatch):
    """Returns the function that runs the script."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        return runpy.run_path(str(SCRIPT))["main"]()

    return run


def test_heads_are_measured_as_table_record_and_pictures(
    trained, jaxformer, attention_maps, corpus, tmp_path, capsys
):
    workdir, _ = trained
    folder = tmp_path / "out"
    options = [f"--workdir={workdir}", f"--output={folder}", "--num_beams=1", "--limit=5"]
    assert attention_maps(*options) == 0
    out = capsys.readouterr().out
    record = json.loads((folder / "heads.json").read_text(encoding="utf-8"))
    assert (record["split"], record["sentences"], record["num_beams"]) == ("valid", 5, 1)
    assert record["checkpoints"] == [180, 120]
    rows = record["heads"]
    assert [(row["attention"], row["layer"], row["head"]) for row in rows] == [
        (kind, 1, head) for kind in KINDS for head in (1, 2)
    ]
    assert all(row["change"] == row["bleu"] - record["bleu"] for row in rows)
    assert all(0 < row["entropy"] < np.log(40) for row in rows)

    # Five of the fourteen, evenly spaced.
    sources, references = (
        [lines[number] for number in (0, 3, 6, 10, 13)]
        for side in ("source", "target")
        for lines in [(corpus / f"valid.{side}").read_text(encoding="utf-8").splitlines()]
    )
    text = "".join(f"{line}\n" for line in sources).encode()
    translated = jaxformer("translate", f"--workdir={workdir}", "--num_beams=1", stdin=text).out
    assert record["bleu"] == score(translated.splitlines(), references).bleu

    table = (folder / "heads.md").read_text(encoding="utf-8")
    assert table in out
    lines = [line for line in table.splitlines() if re.match(r"\| (encoder|decoder|cross) ", line)]
    changes = [float(line.split("|")[5]) for line in lines]
    assert len(changes) == 6
    assert changes == sorted(changes)
    for name in ("heads_bleu.png", "heads_entropy.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_split_that_is_not_there(trained, attention_maps, tmp_path, capsys):
    assert attention_maps(f"--workdir={trained[0]}", f"--output={tmp_path}", "--split=tset") == 2
    assert capsys.readouterr().err == (
        "attention_maps: Corpus 'plain_text' has no split 'tset'; it has train, valid, test.\n"
    )
    assert list(tmp_path.iterdir()) == []
