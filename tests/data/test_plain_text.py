"""Any line-aligned files: what is read, when they are read again, and what is wrong with them."""

import gzip
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.data import plain_text
from jaxformer.data.corpus import open_corpus
from jaxformer.data.plain_text import read_lines

SOURCE = "Ein Haus.\nZwei Häuser.\n\n  Drei\u2028Häuser. \r\n"
TARGET = "A house.\nTwo houses.\n\nThree houses."
PAIRS = [
    ("Ein Haus.", "A house."),
    ("Zwei Häuser.", "Two houses."),
    ("", ""),
    ("Drei\u2028Häuser.", "Three houses."),
]


@pytest.fixture
def files(tmp_path):
    """Writes files and returns their paths as the options that name them."""

    def write(split="train", source=SOURCE, target=TARGET):
        options = {}
        for side, text in (("source", source), ("target", target)):
            path = tmp_path / f"{split}.{side}"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            options[f"{split}_{side}"] = str(path)
        return options

    return write


def read(tmp_path, split="train", **options):
    return list(open_corpus("plain_text", data_dir=tmp_path / "data", **options).pairs(split))


def test_lines_are_aligned(tmp_path, files):
    assert read(tmp_path, **files()) == PAIRS


def test_gzip_is_known_by_its_content(tmp_path, files):
    options = files(source=gzip.compress(SOURCE.encode()))
    assert read(tmp_path, **options) == PAIRS


def test_splits_are_those_that_are_named(tmp_path, files):
    options = {**files("test", "Hier.", "Here."), **files("train")}
    corpus = open_corpus("plain_text", data_dir=tmp_path / "data", **options)
    assert corpus.splits == ("train", "test")
    assert list(corpus.pairs("test")) == [("Hier.", "Here.")]


def test_language_codes_are_allowed(tmp_path, files):
    assert read(tmp_path, **files(), source="de", target="en") == PAIRS


def test_a_changed_file_is_read_again(tmp_path, files):
    read(tmp_path, **files())
    options = files(source=SOURCE.replace("Ein", "Das"))
    assert read(tmp_path, **options)[0] == ("Das Haus.", "A house.")
    assert read(tmp_path, **files()) == PAIRS
    # The same text in another role is another corpus.
    role = {key.replace("train", "valid"): path for key, path in files().items()}
    assert read(tmp_path, "valid", **role) == PAIRS


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, files, monkeypatch):
    options = files()
    lines_of = plain_text.lines_of

    def written_meanwhile(path):
        yield from lines_of(path)
        path.write_text("Another.\n" * 4, encoding="utf-8")

    monkeypatch.setattr(plain_text, "lines_of", written_meanwhile)
    with pytest.raises(ValueError, match="The text changed while it was read"):
        read(tmp_path, **options)
    monkeypatch.undo()
    assert read(tmp_path, **options) == [("Another.", "Another.")] * 4


def test_an_unchanged_file_is_not(tmp_path, files, monkeypatch):
    options = files()
    read(tmp_path, **options)
    monkeypatch.setattr("jaxformer.data.plain_text.lines_of", None)
    assert read(tmp_path, **options) == PAIRS


def test_a_relative_path_is_looked_for_in_manual_dir(tmp_path, files, monkeypatch):
    files()
    monkeypatch.chdir(tmp_path.parent)
    options = {"train_source": "train.source", "train_target": "train.target"}
    assert read(tmp_path, **options, manual_dir=tmp_path) == PAIRS
    with pytest.raises(ValueError, match=r"The text file 'train\.source' does not exist"):
        read(tmp_path, **options)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "train.source").write_text("1\n2\n3\n4\n", encoding="utf-8")
    assert read(tmp_path, **options, manual_dir=tmp_path)[0] == ("1", "A house.")


def test_unaligned_files_name_both_counts(tmp_path, files):
    options = files(target="A house.\nTwo houses.\n")
    with pytest.raises(ValueError, match=r"source has 4 lines and .*target has 2; line n of one"):
        read(tmp_path, **options)
    assert not list((tmp_path / "data").rglob("*.array_record*"))


@pytest.mark.parametrize(
    "content", [b"", b"\n \n\t\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)]
)
def test_an_empty_file(tmp_path, files, content):
    with pytest.raises(ValueError, match=r"train\.target is empty"):
        read(tmp_path, **files(target=content))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, b"\xef\xbb\xbf".__add__])
def test_invalid_utf8_names_file_and_line(tmp_path, files, pack):
    content = pack("A house.\nTwo houses.\nÜ".encode() + b"\n\xfc")
    with pytest.raises(ValueError, match=r"train\.target is not UTF-8 in line 4 \(.*\); convert"):
        read(tmp_path, **files(target=content))


def test_a_damaged_gzip_file(tmp_path, files):
    whole = gzip.compress(SOURCE.encode() * 100)
    # Cut off, of another checksum, with a block of no known kind, and hardly begun.
    for content in (
        whole[:-9],
        whole[:-8] + bytes(8),
        whole[:10] + b"\xff" + whole[11:],
        whole[:5],
    ):
        with pytest.raises(ValueError, match=r"train\.source is a damaged gzip file"):
            read(tmp_path, **files(source=content))


@pytest.mark.parametrize("damage", ["cut", "empty", "gone"])
@pytest.mark.parametrize("name", ["*train.array_record*", "dataset_info.json", "features.json"])
def test_damaged_prepared_data_is_told_and_can_be_prepared_anew(tmp_path, files, name, damage):
    options = files()
    read(tmp_path, **options)
    (path,) = (tmp_path / "data").rglob(name)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if damage == "cut" else 0])
    with pytest.raises(
        ValueError, match=r"^The prepared data in .* cannot be read \(.*Remove"
    ) as e:
        read(tmp_path, **options)
    assert "\n" not in str(e.value)
    shutil.rmtree(str(e.value).split()[4])
    assert read(tmp_path, **options) == PAIRS


def test_shards_are_parts_of_the_text_in_its_order(tmp_path, files, monkeypatch):
    monkeypatch.setattr("jaxformer.data.plain_text._PAIRS_A_SHARD", 3)
    sides = [[f"{word} {number}" for number in range(10)] for word in ("ein", "one")]
    found = read(tmp_path, **files("train", *("\n".join(lines) for lines in sides)))
    assert found == list(zip(*sides, strict=True))
    assert len(list((tmp_path / "data").rglob("*train.array_record*"))) == 4


def test_half_a_split(tmp_path, files):
    options = files()
    del options["train_target"]
    with pytest.raises(ValueError, match=r"'train' lacks a file: set data\.train_target"):
        read(tmp_path, **options)


def test_a_folder_is_no_file(tmp_path, files):
    options = {**files(), "train_source": str(tmp_path)}
    with pytest.raises(ValueError, match="does not exist"):
        read(tmp_path, **options)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), min_size=1))
def test_lines_are_told_apart_by_newlines_only(lines):
    if not any(line.strip("\ufeff").strip() for line in lines):
        return
    data = "\n".join(lines).encode()
    expected = [line.strip() for line in lines]
    expected[0] = lines[0].removeprefix("\ufeff").strip()
    assert read_lines("file", data + b"\n") == expected
    if lines[-1]:
        assert read_lines("file", data) == expected
