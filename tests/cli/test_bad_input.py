"""docs/bad_input.md keeps its word: each row is tried, here or in a test that is named here."""

import ast
import gzip
import json
import re
import runpy
import shutil
from pathlib import Path

import pytest

from jaxformer.cli import build
from jaxformer.cli.trained import read_settings
from tests.cli.conftest import TINY

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"


def read_rows():
    """Yields (what is given, what happens, exit code) of every row of the page."""
    for line in (ROOT / "docs" / "bad_input.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and cells[2].isdigit():
            yield cells[0], cells[1], int(cells[2])


ROWS = {given: (happens, code) for given, happens, code in read_rows()}


def lines(text, count=9):
    return "".join(f"{text.format(number)}\n" for number in range(count)).encode()


SIDES = {"de": "source", "en": "target"}
SOURCE, TARGET = "Ein Haus hat {} Fenster.", "A house has {} windows."
GOOD = {"train.de": lines(SOURCE), "train.en": lines(TARGET)}
MEGABYTE = b"fenster " * 125_000 + b"\n"

# What is given: files other than the good ones (None: it is missing; "": it is not named), and
# further settings.
TEXTS = {
    "a training file that is not there": [({"train.de": None}, "")],
    "one side only": [({"train.en": ""}, "")],
    "files of different length": [({"train.en": lines(TARGET, 7)}, "")],
    "an empty file, one of blank lines": [
        ({"train.de": b""}, ""),
        ({"train.de": b" \n\t\r\n"}, ""),
    ],
    "bytes that are not UTF-8": [({"train.en": lines(TARGET, 7) + b"\xff\n" + lines("", 1)}, "")],
    "UTF-16": [({"train.en": b"\xff\xfe" + lines(TARGET).decode().encode("utf-16-le")}, "")],
    "a gzip file that is cut short": [
        ({"train.de": gzip.compress(lines(SOURCE), mtime=0)[:-9]}, "")
    ],
    "no pair that is short enough": [({}, "data.max_length=1")],
    "a budget smaller than one sentence": [({}, "data.target_tokens=5")],
    "a larger vocabulary than the text allows": [({}, "data.vocab_size=20000")],
    "a smaller vocabulary than its characters need": [({}, "data.vocab_size=261")],
    "a line of a megabyte to validate with": [
        ({"valid.de": lines(SOURCE, 1) + MEGABYTE, "valid.en": lines(TARGET, 2)}, "")
    ],
}

# A config.json, as changes to a good one.
RECORDS = {
    "a `config.json` that is no JSON": "{",
    "a `config.json` with an unknown name": {"model.num_head": 3},
    "a `config.json` with a value of another type": {"model.d_model": "many"},
    "a `config.json` that names code beside it": {"model.attention": "mine:attend"},
}

# The other rows, and where they are tried.
ELSEWHERE = {
    "a line of a megabyte to train on": "cli/test_bad_input.py::test_odd_text_is_trained_on",
    "blank lines among others, blank translations": "cli/test_bad_input.py::test_odd_text_is_read",
    "a byte-order mark, CRLF": "cli/test_bad_input.py::test_odd_text_is_read",
    "NUL bytes, other control characters": "cli/test_bad_input.py::test_odd_text_is_read",
    "scripts and emoji that the vocabulary lacks, right-to-left text": (
        "cli/test_bad_input.py::test_odd_text_is_read"
    ),
    "an input that is not there": "cli/test_mistakes.py::test_what_a_trained_model_does_not_have",
    "input that is not UTF-8": (
        "cli/test_commands.py::test_a_failed_translation_leaves_the_output_file_alone"
    ),
    "no input at all": "cli/test_commands.py::test_no_input_gives_no_output",
    "an empty line, a blank one": (
        "cli/test_commands.py::test_translations_are_in_order_and_blank_lines_are_kept"
    ),
    "input with a byte-order mark, CRLF": "cli/test_commands.py::test_a_byte_order_mark_is_no_text",
    "NUL bytes, emoji alone, a script never seen": (
        "cli/test_commands.py::test_as_many_lines_come_out_as_go_in"
    ),
    "a line of a megabyte": "cli/test_bad_input.py::test_a_line_of_a_megabyte_is_translated",
    "ten thousand lines on stdin": "cli/test_bad_input.py::test_ten_thousand_lines_are_translated",
    "a reader who leaves, as in `\\| head`": "cli/test_commands.py::test_a_closed_pipe_is_silent",
    "an empty sentence for `attention`": "cli/test_attention.py::test_mistakes",
    "a config file with an unknown name": "cli/test_mistakes.py::test_wrong_config_files",
    "a config file with a value of another type": "cli/test_mistakes.py::test_wrong_config_files",
    "a config file that fails": "cli/test_mistakes.py::test_wrong_config_files",
    **dict.fromkeys(
        ("`--executor=slurm`", "`--topology=tpu-v6e-256`", "a workdir of this machine"),
        "cli/test_launch.py::test_a_mistake_is_one_sentence_and_nothing_is_written",
    ),
    "quotes, newlines and `$HOME` in a setting": (
        "cli/test_launch.py::test_hosts_run_the_very_command_line"
    ),
    **{
        given: "cli/test_mistakes.py::test_wrong_settings"
        for given in ROWS
        if given.startswith("`--config.")
    },
}


def test_every_row_is_tried():
    assert {*TEXTS, *RECORDS, *ELSEWHERE} == set(ROWS)
    assert len(list(read_rows())) == len(ROWS)


@pytest.mark.parametrize("given", ELSEWHERE)
def test_where_a_row_is_tried_it_is_said_alike(given):
    file, _, test = ELSEWHERE[given].partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    happens, code = ROWS[given]
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = [text.replace("{folder}", "/data") for text in constants if isinstance(text, str)]
    if code == 2:
        # A test may leave open how a sentence ends, with the number of devices for instance.
        assert any(
            happens in text or (len(text) > 60 and happens.startswith(text)) for text in texts
        )
    if given.startswith("`"):
        assert given.strip("`") in texts


def train_on(jaxformer, folder, files, settings):
    """Trains on files, written to a folder: the good ones and those that are given instead."""
    arguments = []
    for name, content in {**GOOD, **files}.items():
        if content == "":
            continue
        if content is not None:
            (folder / name).write_bytes(content)
        split, language = name.split(".")
        arguments.append(f"--config.data.{split}_{SIDES[language]}={folder / name}")
    arguments += [f"--config.{setting}" for setting in ["data.vocab_size=300", *settings.split()]]
    config = f"--config={ROOT / 'configs' / 'plain_text.py'}"
    return jaxformer("train", config, f"--workdir={folder / 'run'}", *TINY, *arguments)


@pytest.mark.parametrize("given", TEXTS)
def test_text_that_cannot_be_trained_on(jaxformer, tmp_path, given):
    for number, (files, settings) in enumerate(TEXTS[given]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        result = train_on(jaxformer, folder, files, settings)
        assert result.err.replace(str(folder), "/data") == f"jaxformer: {ROWS[given][0]}\n"
        assert (result.code, result.out) == (ROWS[given][1], "")
        assert not (folder / "run").exists()


@pytest.mark.parametrize("given", RECORDS)
def test_a_wrong_record_of_settings(jaxformer, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    # As after PYTHONPATH=.
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text("raise SystemExit('executed')", encoding="utf-8")
    config = runpy.run_path(str(ROOT / "configs" / "plain_text.py"))["get_config"]()
    tree, changes = config.to_dict(), RECORDS[given]
    for key, value in changes.items() if isinstance(changes, dict) else ():
        group, name = key.split(".")
        tree[group][name] = value
    content = json.dumps(tree) if isinstance(changes, dict) else changes
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    result = jaxformer("translate", "--workdir=.")
    assert result.err == f"jaxformer: {ROWS[given][0]}\n"
    assert (result.code, result.out) == (ROWS[given][1], "")


# A pair a line: what stands in the files, and what is read from them.
ODD = [
    ("\ufeffEin Haus.", "A house."),
    ("", "Nothing said."),
    ("Nichts gesagt.", ""),
    ("", ""),
    ("a\0b", "\0"),
    ("Tab\tund\x0bmehr\x1f", "line\u2028separator\x85"),
    ("ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "ᓀᐦᐃᔭᐍᐏᐣ"),
    ("😀", "👩‍👩‍👧🏽"),
    ("مرحبا بالعالم", "\u05e9\u05dc\u05d5\u05dd \u202eabc\u202c"),
]


@pytest.fixture(scope="module")
def odd(jaxformer, tmp_path_factory):
    """Returns the workdir of a training on all kinds of text, and what it printed."""
    folder = tmp_path_factory.mktemp("odd")
    files = {}
    for side, end in (("de", "\r\n"), ("en", "\n")):
        text = "".join(pair[side == "en"] + end for pair in ODD)
        for split in ("train", "valid"):
            files[f"{split}.{side}"] = text.encode() + GOOD[f"train.{side}"]
        files[f"train.{side}"] += MEGABYTE
    settings = "data.vocab_size=310 train.num_steps=3 train.eval_every=2"
    result = train_on(jaxformer, folder, files, settings)
    assert (result.code, result.err) == (0, "")
    return folder / "run", result.out


def test_odd_text_is_trained_on(odd):
    count = len(ODD) + 9
    said = f"{count} training pairs, {count} of validation; 1 training pairs left out"
    assert said in odd[1]


def test_odd_text_is_scored(odd, trained, jaxformer, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    files = [
        f"--config.data.test_{side}={odd[0].parent}/valid.{name}" for name, side in SIDES.items()
    ]
    result = jaxformer("evaluate", f"--workdir={workdir}", "--num_beams=1", *files)
    assert (result.code, result.err) == (0, "")
    assert f"sentences   {len(ODD) + 9} of test" in result.out


def test_odd_text_is_read(odd):
    pairs = build.make_corpus(read_settings(str(odd[0]), [])).pairs("valid")
    expected = [tuple(text.removeprefix("\ufeff").strip() for text in pair) for pair in ODD]
    assert pairs[: len(ODD)] == expected


def test_ten_thousand_lines_are_translated(trained, jaxformer):
    workdir, _ = trained
    text = b"an bee\ngo go in\n" * 5000
    options = ["--num_beams=1", "--config.decode.extra_length=0"]
    options.append("--config.decode.batch_tokens=16000")
    result = jaxformer("translate", f"--workdir={workdir}", *options, stdin=text)
    assert (result.code, result.err) == (0, "")
    first, second, rest = result.out.split("\n", 2)
    assert first != second
    assert rest == f"{first}\n{second}\n" * 4999


@pytest.mark.slow
def test_a_line_of_a_megabyte_is_translated(trained, jaxformer):
    workdir, _ = trained
    text = b"an bee " * 150_000 + b"\ngo go in\n"
    # Many pieces at once, and short translations of them.
    options = ["--num_beams=1", "--config.decode.extra_length=0"]
    options.append("--config.decode.batch_tokens=100000")
    result = jaxformer("translate", f"--workdir={workdir}", *options, stdin=text)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("\n") == 2
