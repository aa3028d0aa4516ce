"""Passages of text files: paragraphs, and parts of those that are too long to be read at once."""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (".md", ".txt")

# About 200 pieces of English, which an encoder of 256 reads whole.
_MOST_WORDS = 150


class Passage(NamedTuple):
    """Part of a file, spaces and line ends made one space each; the number counts from 1."""

    path: str
    number: int
    text: str

    @property
    def name(self) -> str:
        """What tells it from every other passage."""
        return f"{self.path}#{self.number}"


def find_files(path: str | os.PathLike[str]) -> list[Path]:
    """Returns a file, or the text files of a folder and of the folders in it, sorted.

    Raises: ValueError if there are none, or there is nothing of that name.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"There is no file and no folder {path}. Give one that is there.")
    found = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
    )
    if not found:
        raise ValueError(
            f"There are no files {' or '.join(f'*{suffix}' for suffix in SUFFIXES)} in {path}. "
            "Give a folder of texts, or one file."
        )
    return found


def read_passages(path: Path) -> list[Passage]:
    """Returns the passages of a file of UTF-8 text, which blank lines divide.

    Raises: OSError if it cannot be read; ValueError if it is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start:,}: {error.reason}). Convert it to UTF-8."
        ) from error
    parts = itertools.chain.from_iterable(_parts(each) for each in re.split(r"\n\s*\n", text))
    return [Passage(str(path), number, part) for number, part in enumerate(parts, start=1)]


def _parts(paragraph: str) -> Iterator[str]:
    """Yields parts of even length, each but the last ending with a sentence where one ends."""
    # What is not to be printed could command a terminal.
    plain = "".join(c if c.isprintable() else " " for c in paragraph)
    words = plain.split()
    while words:
        end = _MOST_WORDS
        if len(words) > end:
            ends = [place for place in range(end // 2, end) if words[place][-1] in ".!?"]
            end = ends[-1] + 1 if ends else end
        yield " ".join(words[:end])
        words = words[end:]
