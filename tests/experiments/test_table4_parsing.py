"""experiments/table4_parsing.py: a tiny parser is trained, scored, and gone on with."""

import json
import random
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxformer.cli.main import main
from jaxformer.cli.mistakes import Mistake
from jaxformer.trees.bracketed import leaves, read_trees, write_tree

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "table4_parsing.py"
SIZES = {"train": 80, "valid": 7, "test": 5}
TINY = [
    *("--config.model.d_model=16", "--config.model.d_ff=24", "--config.model.num_heads=2"),
    *("--config.model.num_encoder_layers=1", "--config.model.num_decoder_layers=1"),
    *("--config.data.vocab_size=280", "--config.data.max_length=60"),
    *("--config.data.source_tokens=120", "--config.data.target_tokens=120"),
    *("--config.train.num_steps=6", "--config.train.checkpoint_every=3"),
    *("--config.train.eval_every=0", "--config.decode.num_beams=2"),
    "--config.decode.extra_length=9",
]


def noun_phrase(generator):
    return f"(NP (DT the) (NN {generator.choice(['dog', 'cat', 'bird'])}))"


def sentence(generator):
    verb = generator.choice(["(VBZ barks)", f"(VBZ sees) {noun_phrase(generator)}"])
    return f"( (S {noun_phrase(generator)} (VP {verb}) (. .)) )"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Returns the workdir of a parser that has learnt next to nothing."""
    folder = tmp_path_factory.mktemp("parsing")
    generator = random.Random(0)
    for split, size in SIZES.items():
        lines = [f"{sentence(generator)}\n" for _ in range(size)]
        (folder / f"{split}.ptb").write_text("".join(lines), encoding="utf-8")
    files = [f"--config.data.{split}_target={folder / f'{split}.ptb'}" for split in SIZES]
    config = f"--config={ROOT / 'configs' / 'parsing_small.py'}"
    assert main(["train", config, *files, *TINY, f"--workdir={folder / 'run'}"]) == 0
    return folder / "run"


@pytest.fixture
def table4(monkeypatch, capsys):
    """Returns the function that runs the script: (exit code, what it printed, errors)."""

    def run(*argv):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, argv)])
        code = runpy.run_path(str(SCRIPT))["main"]()
        return code, *capsys.readouterr()

    return run


def test_a_trained_parser_is_scored(workdir, tmp_path, table4):
    folder = tmp_path / "scores"
    argv = (f"--workdir={workdir}", "--split=valid", f"--output={folder}")
    code, out, err = table4(*argv)
    assert code == 0
    assert err == "7 of 7 sentences\n"
    record = json.loads((folder / "valid.json").read_text(encoding="utf-8"))
    assert (record["sentences"], record["num_beams"], record["alpha"]) == (7, 2, 0.3)
    assert record["checkpoints"] == [6, 3]
    assert sum(record["faults"].values()) == record["malformed"]
    assert record["labelled"]["malformed"] == record["malformed"]
    assert sum(row["sentences"] for row in record["by_length"]) == 7
    assert record["right_branching"]["f1"] > 0
    assert (folder / "valid.md").read_text(encoding="utf-8") in out
    assert (folder / "valid.png").stat().st_size > 1000
    trees = {
        name: list(read_trees((folder / f"valid.{name}.ptb").read_text(encoding="utf-8")))
        for name in ("reference", "candidate")
    }
    assert [leaves(tree) for tree in trees["candidate"]] == list(map(leaves, trees["reference"]))

    # It goes on after what was decoded, and begins anew where something else is asked for.
    header, first, *more = (folder / "valid.txt").read_text(encoding="utf-8").splitlines()
    # The file may be older than the choice of a penalty.
    older = header.replace('"length_penalty": "jaxformer.decode.penalty:gnmt_penalty", ', "")
    assert older != header
    (folder / "valid.txt").write_text(f"{older}\nkept\n{more[0]}\n", encoding="utf-8")
    assert table4(*argv)[2] == "7 of 7 sentences\n"
    lines = (folder / "valid.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [header, "kept", *more]
    assert table4(*argv, "--limit=3")[2] == "3 of 3 sentences\n"
    lines = (folder / "valid.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    assert lines[1] != "kept"
    assert first in lines


def test_a_search_that_is_held_to_trees_finds_no_other(workdir, tmp_path, table4):
    argv = (f"--workdir={workdir}", "--split=test", f"--output={tmp_path}", "--hold_to_trees")
    assert table4(*argv)[0] == 0
    record = json.loads((tmp_path / "test.json").read_text(encoding="utf-8"))
    assert record["hold_to_trees"]
    # It has no room to close what it opens for ever.
    assert set(record["faults"]) <= {"ends before it is closed"}
    assert "Held to trees." in (tmp_path / "test.md").read_text(encoding="utf-8")


def test_without_a_token_for_each_symbol_it_cannot_be_held(tmp_path):
    config = {"decode": {}, "data": {"vocab_type": "bpe"}}
    trained = SimpleNamespace(tokenizer=object())
    parse = runpy.run_path(str(SCRIPT))["parse"]
    with pytest.raises(Mistake, match="this run has data.vocab_type='bpe'. Train one with"):
        parse(config, trained, [], tmp_path / "x.txt", {"hold_to_trees": True})


def test_what_is_counted():
    script = runpy.run_path(str(SCRIPT))
    references = list(
        read_trees("(S (NP (DT the) (NN dog)) (VP (VBZ barks)) (. .))" * 4 + "(FRAG (NN it))")
    )
    right, no_tree = "(S (NP DT NN )NP (VP VBZ )VP . )S", "(S (NP DT NN )NP (VP VBZ )VP"
    outputs = [right, right.replace("VP", "NP"), no_tree, "", "(FRAG NN )FRAG"]
    record, candidates = script["assess"](outputs, references)
    assert record["faults"] == {"ends before it is closed": 2}
    assert (record["sentences"], record["malformed"]) == (5, 2)
    assert [candidate is None for candidate in candidates] == [False, False, True, True, False]
    labelled = record["labelled"]
    # 4 references of 3 brackets and one of 1; 2 + 3 + 1 right of 3 + 3 + 1.
    assert [labelled[name] for name in ("matched", "reference", "candidate")] == [6, 13, 7]
    assert labelled["f1"] == 60.0
    assert record["well_formed_only"]["reference"] == 7
    assert record["unlabelled"]["matched"] == 7
    assert record["right_branching"]["matched"] == 4
    assert record["by_length"] == [
        {
            "words": "1-10",
            "sentences": 5,
            "malformed": 2,
            "labelled": 60.0,
            "unlabelled": 70.0,
            "right_branching": round(100 * 2 * 4 / (13 + 8), 2),
        }
    ]
    flat, same = (script["for_evalb"](candidates[i], references[i]) for i in (2, 1))
    assert write_tree(flat) == "(TOP (DT the) (NN dog) (VBZ barks) (. .))"
    assert write_tree(same) == "(S (NP (DT the) (NN dog)) (NP (VBZ barks)) (. .))"


def test_lengths_are_classes():
    script = runpy.run_path(str(SCRIPT))
    references = [
        next(read_trees(f"(S {'(NN a) ' * count})")) for count in (1, 10, 11, 20, 80, 81, 300)
    ]
    outputs = [f"(S {'NN ' * len(leaves(reference))})S" for reference in references]
    rows = script["assess"](outputs, references)[0]["by_length"]
    assert [(row["words"], row["sentences"]) for row in rows] == [
        *(("1-10", 2), ("11-20", 2), ("61-80", 1), ("over 80", 2))
    ]


@pytest.mark.parametrize("name", [None, "quickstart"])
def test_a_run_that_is_no_parser(table4, tmp_path, name):
    if name:
        config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]().to_dict()
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    code, out, err = table4(f"--workdir={tmp_path}")
    assert (code, out) == (2, "")
    assert err.startswith("table4_parsing: ")
    assert err.count("\n") == 1
    assert not name or "is no parser: it was trained from 'enm' to 'en'" in err
