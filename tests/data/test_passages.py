"""Text files as passages."""

import pytest

from jaxformer.data.passages import find_files, read_passages


def test_paragraphs_are_passages(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffOne\nline.\r\n\r\n \t\nTwo\x1b[2J  lines\n\n\n\n".encode())
    found = read_passages(path)
    assert [(each.number, each.text) for each in found] == [(1, "One line."), (2, "Two [2J lines")]
    assert found[1].name == f"{path}#2"


def test_a_long_paragraph_is_divided_where_a_sentence_ends(tmp_path):
    path = tmp_path / "a.txt"
    words = [f"w{number}" for number in range(400)]
    words[99] += "."
    words[120] += "?"
    path.write_text(" ".join(words), encoding="utf-8")
    texts = [each.text for each in read_passages(path)]
    assert [len(text.split()) for text in texts] == [121, 150, 129]
    assert " ".join(texts) == " ".join(words)


def test_files_are_found_below_a_folder(tmp_path):
    for name in ("b.txt", "a.MD", "sub/c.txt", "d.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    names = [str(path.relative_to(tmp_path)) for path in find_files(tmp_path)]
    assert names == ["a.MD", "b.txt", "sub/c.txt"]
    # A file that is named is read whatever it is called.
    assert find_files(tmp_path / "d.pdf") == [tmp_path / "d.pdf"]


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="There is no file and no folder .*none"):
        find_files(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no files \*.md or \*.txt in"):
        find_files(tmp_path)


def test_a_file_that_is_not_utf8_is_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ValueError, match=r"a.txt is not UTF-8 \(byte 3"):
        read_passages(tmp_path / "a.txt")
