"""A memory of passages: each found again by what it means, with its main point told."""

import contextlib
import dataclasses
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxformer.data.passages import Passage
from jaxformer.io.vector_store import Entry, VectorStore, open_milvus
from jaxformer.run.main_point import Span, choose, is_within, word_scores, words
from jaxformer.run.reading import Reader, Reading, pool_pieces

PASSAGE, MAIN_POINT = "passage", "main_point"
SHARE = 0.25


class Answer(NamedTuple):
    """A passage that a memory has found.

    Attributes:
      similarity: to the question; 1 is the same.
      main_point: where its words begin and end in the text.
    """

    passage: Passage
    similarity: float
    main_point: list[Span]


@dataclasses.dataclass(frozen=True)
class Memory:
    """A vector database, and the encoder that reads what goes in and what is asked.

    Attributes:
      share: of a passage's words, how many are its main point.
      score: what ranks them, a name of `Reading.scores`.
      vector: "passage" if the vector that is stored is that of the whole passage, "main_point" if
        it is the mean over the pieces of its main point.
    """

    store: VectorStore
    reader: Reader
    share: float
    score: str
    vector: str

    def add(self, passages: Sequence[Passage]) -> None:
        """Stores passages; what the memory holds of their files is replaced."""
        entries = []
        for place, reading in self.reader.read([passage.text for passage in passages]):
            passage = passages[place]
            point = self._main_point(passage.text, reading)
            chosen_S = (
                is_within(point, reading.pieces)
                if self.vector == MAIN_POINT and point
                else np.ones(len(reading.pieces.id_S), bool)
            )
            content = {**passage._asdict(), "main_point": [list(span) for span in point]}
            entries.append(Entry(passage.name, pool_pieces(reading, chosen_S), content))
        self.store.add(entries)
        self._forget({passage.path for passage in passages}, {entry.name for entry in entries})

    def ask(self, question: str, limit: int) -> list[Answer]:
        """Returns the passages nearest to a question, the nearest first."""
        (found,) = self.store.search(self.reader.embed([question]), limit)
        return [
            Answer(_passage(each.content), each.similarity, _spans(each.content)) for each in found
        ]

    def _main_point(self, text: str, reading: Reading) -> list[Span]:
        spans = words(text)
        scores = word_scores(spans, reading.pieces, reading.scores[self.score])
        return [spans[place] for place in choose(scores, self.share)]

    def _forget(self, paths: Iterable[str], but: set[str]) -> None:
        """Takes out passages of files that have fewer of them now."""
        known = set(paths)
        old = [name for name in self.store.names() if name.rpartition("#")[0] in known]
        if gone := [name for name in old if name not in but]:
            self.store.remove(gone)


@contextlib.contextmanager
def open_memory(
    path: str | os.PathLike[str], reader: Reader, *, may_be_new: bool = False, **settings: Any
) -> Generator[Memory]:
    """Opens the memory in a folder, which no other process can open meanwhile.

    Args:
      may_be_new: whether one that is not there is made.
      settings: `share`, `score` and `vector` as `Memory` has them. A memory keeps those that it was
        made with; without any, that is a quarter, the last layer, and the whole passage.

    Raises: ValueError if the memory was made with another encoder or other settings, or as
      `open_milvus`; OSError if it cannot be read or written.
    """
    defaults = {"share": SHARE, "score": reader.last_layer, "vector": PASSAGE}
    about = {"encoder": reader.digest, **defaults, **settings}
    with open_milvus(path, width=reader.width if may_be_new else 0, about=about) as store:
        known = store.about
        for name in ("encoder", *settings):
            if known.get(name) != about[name]:
                raise ValueError(
                    f"The memory {os.fspath(path)} was made with {name}={known.get(name)!r}, got "
                    f"{about[name]!r}. Use the same, or make a new memory."
                )
        yield Memory(store, reader, **{name: known[name] for name in defaults})


def _passage(content: Mapping[str, Any]) -> Passage:
    return Passage(content["path"], content["number"], content["text"])


def _spans(content: Mapping[str, Any]) -> list[Span]:
    return [(start, end) for start, end in content["main_point"]]
