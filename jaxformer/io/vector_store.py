"""Where a memory keeps its vectors: what it asks of a database, and Milvus Lite as one."""

import contextlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

_COLLECTION = "memory"
# So many entries are handed over at once, and names may have so many characters.
_AT_ONCE, _LONGEST_NAME = 1000, 4096


class Entry(NamedTuple):
    """A vector with its name, and what comes back with it: plain values of JSON."""

    name: str
    vector_D: np.ndarray
    content: Mapping[str, Any]


class Found(NamedTuple):
    """An entry near a query; 1 is the same direction, 0 a right angle."""

    name: str
    similarity: float
    content: Mapping[str, Any]


class VectorStore(Protocol):
    """All that a memory asks of a vector database."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Stores entries on the disk; one of a known name replaces the old one."""

    def remove(self, names: Sequence[str]) -> None:
        """Takes entries out; unknown names are no mistake."""

    def names(self) -> list[str]:
        """Returns the names of all entries."""

    def search(self, vector_ND: np.ndarray, limit: int) -> list[list[Found]]:
        """Returns the entries nearest to each vector by their angle, the nearest first."""


class MilvusStore:
    """Milvus Lite, which keeps a database in a folder and works within this process.

    The search is exact: every vector is compared.
    """

    def __init__(self, collection: Any) -> None:
        """Takes an open collection; see `open_milvus`."""
        self._collection = collection

    @property
    def about(self) -> dict[str, Any]:
        """What was said of the database when it was made."""
        return dict(self._collection.schema.properties)

    def add(self, entries: Sequence[Entry]) -> None:
        """As VectorStore has it."""
        for start in range(0, len(entries), _AT_ONCE):
            self._collection.insert(
                [
                    {
                        "name": entry.name,
                        "vector": np.asarray(entry.vector_D, np.float32).tolist(),
                        "content": json.dumps(entry.content, ensure_ascii=False),
                    }
                    for entry in entries[start : start + _AT_ONCE]
                ]
            )
        self._collection.flush()

    def remove(self, names: Sequence[str]) -> None:
        """As VectorStore has it."""
        self._collection.delete(list(names))
        self._collection.flush()

    def names(self) -> list[str]:
        """As VectorStore has it."""
        return [row["name"] for row in self._collection.query(output_fields=["name"])]

    def search(self, vector_ND: np.ndarray, limit: int) -> list[list[Found]]:
        """As VectorStore has it."""
        rows = self._collection.search(
            list(np.asarray(vector_ND, np.float32)),
            top_k=limit,
            metric_type="COSINE",
            output_fields=["content"],
        )
        return [
            [
                Found(hit["id"], hit["distance"], json.loads(hit["entity"]["content"]))
                for hit in hits
            ]
            for hits in rows
        ]


@contextlib.contextmanager
def open_milvus(
    path: str | os.PathLike[str], *, width: int = 0, about: Mapping[str, Any] | None = None
) -> Generator[MilvusStore]:
    """Opens a database, which no other process can open meanwhile.

    Args:
      path: of its folder.
      width: of its vectors; with it, a database that is not there is made.
      about: what a new one is to remember of itself, plain values of JSON.

    Raises: ValueError if the package milvus-lite is not installed, there is no database and no
      width, something else is there, the vectors have another width, or another process has the
      database open; OSError if it cannot be read or written.
    """
    try:
        import milvus_lite
    except ImportError as error:
        raise ValueError(
            "A memory needs the package milvus-lite, which is not installed. Install "
            "jaxformer[memory]."
        ) from error
    path = Path(path)
    _check(path, may_be_new=bool(width))
    with contextlib.ExitStack() as stack:
        try:
            database = stack.enter_context(milvus_lite.MilvusLite(str(path)))
            if database.has_collection(_COLLECTION):
                collection = database.get_collection(_COLLECTION)
            else:
                collection = _make(database, width, about or {})
        except milvus_lite.DataDirLockedError as error:
            raise ValueError(
                f"Another process has the memory {path} open. Wait until it has ended."
            ) from error
        except milvus_lite.MilvusLiteError as error:
            raise ValueError(
                f"The memory {path} is damaged ({error}). Make a new one elsewhere."
            ) from error
        found = next(field.dim for field in collection.schema.fields if field.name == "vector")
        if width not in (0, found):
            raise ValueError(
                f"The vectors of the memory {path} are {found} wide, and those of this encoder "
                f"{width}. Use the encoder that the memory was made with, or make a new one."
            )
        yield MilvusStore(collection)


def _check(path: Path, *, may_be_new: bool) -> None:
    """Looks before anything is written: Milvus Lite would make its folders anywhere."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file, where a memory is a folder. Give another name.")
    is_there = (path / "LOCK").exists()
    if not is_there and not may_be_new:
        raise ValueError(f"There is no memory at {path}. Make one with `jaxformer memory add`.")
    if not is_there and path.exists() and any(path.iterdir()):
        raise ValueError(
            f"{path} is a folder that holds something else. Give a name that is not taken."
        )


def _make(database: Any, width: int, about: Mapping[str, Any]) -> Any:
    from milvus_lite import CollectionSchema, DataType, FieldSchema

    fields = [
        FieldSchema("name", DataType.VARCHAR, is_primary=True, max_length=_LONGEST_NAME),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=width),
        FieldSchema("content", DataType.VARCHAR),
    ]
    schema = CollectionSchema(fields, properties=dict(about))
    return database.create_collection(_COLLECTION, schema)
