"""Opening a parallel corpus by name: `open_corpus("bible").pairs("train")[0]`."""

import hashlib
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, overload

import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jaxformer.data.prepare import Prepared, default_data_dir, prepare_builder, told_if_damaged
from jaxformer.files import user_path

CORPORA = ("bible", "multi30k", "plain_text", "treebank", "wmt14")

_SPLIT_NAMES = {"train": ("train",), "valid": ("valid", "validation", "val"), "test": ("test",)}
# Its module makes it at run time.
_example: Any = vars(tf_example_pb2)["Example"]
_CHUNK = 1024


class Records(Protocol):
    """What is used of TFDS's data sources."""

    def __len__(self) -> int:
        """Number of records."""
        ...

    def __getitems__(self, indices: Sequence[int]) -> Sequence[bytes]:
        """Several records at once, each a serialised tf.train.Example."""
        ...


class Pairs(Sequence[tuple[str, str]]):
    """The (source, target) pairs of one split, read from disk when asked for.

    Iterating reads in chunks and is about twice as fast as indexing pair by pair.
    """

    def __init__(self, records: Records, directory: Path, source: str, target: str) -> None:
        self._records = records
        self._directory = directory
        self._source = source
        self._target = target

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, str]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, str] | list[tuple[str, str]]:
        if isinstance(index, slice):
            return self._read(range(*index.indices(len(self))))
        return self._read([range(len(self))[index]])[0]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for start in range(0, len(self), _CHUNK):
            yield from self._read(range(start, min(start + _CHUNK, len(self))))

    def _read(self, indices: Sequence[int]) -> list[tuple[str, str]]:
        with told_if_damaged(self._directory):
            # TFDS's own way from a record to its columns takes most of the time of reading it.
            return [
                (_text(columns[self._source]), _text(columns[self._target]))
                for record in self._records.__getitems__(list(indices))
                for columns in [_example.FromString(record).features.feature]
            ]


def _text(column: Any) -> str:
    (data,) = column.bytes_list.value
    return data.decode()


class Corpus:
    """A prepared parallel corpus, read through TFDS's random-access data source.

    Attributes:
        name: the name it was opened by.
        splits: those of "train", "valid", "test" that it has, in this order.
    """

    def __init__(self, name: str, prepared: Prepared) -> None:
        self.name = name
        self._directory, self._source, self._target = prepared
        with told_if_damaged(self._directory):
            self._builder: Any = tfds.builder_from_directory(self._directory)
        stored = self._builder.info.splits
        self._stored_names = {
            split: next(alias for alias in aliases if alias in stored)
            for split, aliases in _SPLIT_NAMES.items()
            if any(alias in stored for alias in aliases)
        }
        self.splits = tuple(self._stored_names)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, {self._source}->{self._target}, splits={self.splits})"

    def pairs(self, split: str) -> Pairs:
        """The split's sentence pairs, in the corpus's own order.

        Raises: ValueError if the corpus has no such split.
        """
        if split not in self._stored_names:
            raise ValueError(
                f"Corpus {self.name!r} has no split {split!r}; it has {', '.join(self.splits)}."
            )
        with told_if_damaged(self._directory):
            records = self._builder.as_data_source(
                split=self._stored_names[split],
                deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
            )
        return Pairs(records, self._directory, self._source, self._target)

    @property
    def stamp(self) -> str:
        """sha256, in hexadecimal, of where the prepared files are, their sizes and times.

        It tells whether they may have changed, and needs no text to be read.
        """
        with told_if_damaged(self._directory):
            files = [
                (path.name, path.stat().st_size, path.stat().st_mtime_ns)
                for path in sorted(self._directory.iterdir())
            ]
        facts = [str(self._directory.absolute()), self._source, self._target, files]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def open_corpus(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Corpus:
    """Opens a corpus, preparing it first where this has not been done yet.

    Args:
        name: one of `CORPORA`, or the dotted name "my_package.module:Builder" of a class derived
            from `tfds.core.GeneratorBasedBuilder` with text columns.
        data_dir: folder of prepared data, by default `$XDG_CACHE_HOME/jaxformer/datasets`.
        manual_dir: folder of raw files; `$JAXFORMER_DATA` and TFDS's manual directory are tried
            next, then the public download.
        **options: what the corpus's `prepare` takes, such as the language codes `source` and
            `target`; for a dotted name also the builder's own arguments. An option that is None
            or "" counts as not given.

    Raises: ValueError for a name or option that does not exist; ValueError or OSError if the raw
        data is missing or not what it should be.
    """
    data_path = user_path(data_dir) if data_dir else default_data_dir()
    manual_path = _manual_path(manual_dir)
    given = _given(options)
    if ":" in name:
        return Corpus(name, _prepare_dotted(name, data_path, manual_path, **given))
    prepare = _module(name).prepare
    _check_options(name, prepare, given)
    return Corpus(name, prepare(data_path, manual_path, **given))


def check_corpus(
    name: str, *, manual_dir: str | os.PathLike[str] | None = None, **options: Any
) -> None:
    """Finds what `open_corpus` would refuse, as far as that needs no text but the files named.

    Args: as those of `open_corpus`.

    Raises: ValueError for a name or option that does not exist, or files that are not there.
    """
    manual_path, given = _manual_path(manual_dir), _given(options)
    if ":" in name:
        _builder_class(name)
        return
    module = _module(name)
    _check_options(name, module.prepare, given)
    if name in ("plain_text", "treebank"):
        module.find_files(manual_path, **given)


def _manual_path(manual_dir: str | os.PathLike[str] | None) -> Path | None:
    path = user_path(manual_dir) if manual_dir else None
    if path and not path.is_dir():
        raise FileNotFoundError(f"manual_dir={str(path)!r} is not a folder.")
    return path


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value not in (None, "")}


def _module(name: str) -> Any:
    """Returns the module of a corpus of ours."""
    if name not in CORPORA:
        raise ValueError(
            f"Unknown corpus {name!r}; choose one of {', '.join(CORPORA)}, or name a TFDS builder "
            "class as 'package.module:Class'."
        )
    return importlib.import_module(f"jaxformer.data.{name}")


def _check_options(name: str, prepare: Callable[..., Prepared], given: dict[str, Any]) -> None:
    known = list(inspect.signature(prepare).parameters)[2:]
    if unknown := [option for option in given if option not in known]:
        raise ValueError(
            f"Corpus {name!r} takes no option {', '.join(unknown)}; it takes {', '.join(known)}."
        )


def _prepare_dotted(
    name: str,
    data_dir: Path,
    manual_dir: Path | None,
    *,
    source: str = "source",
    target: str = "target",
    **arguments: Any,
) -> Prepared:
    """A user's own builder, of whose text columns two are called `source` and `target`."""
    builder = prepare_builder(_builder_class(name), data_dir, manual_dir=manual_dir, **arguments)
    texts = [
        column
        for column, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Text)
    ]
    if source not in texts or target not in texts:
        raise ValueError(
            f"Corpus {name!r} has the text columns {', '.join(texts) or '(none)'}, got "
            f"source={source!r} and target={target!r}; name two of its columns."
        )
    return Prepared(Path(builder.data_path), source, target)


def _builder_class(name: str) -> type[tfds.core.DatasetBuilder]:
    module_name, _, class_name = name.partition(":")
    try:
        builder_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"Corpus {name!r} cannot be imported: {error}.") from error
    if not (
        isinstance(builder_class, type) and issubclass(builder_class, tfds.core.DatasetBuilder)
    ):
        raise ValueError(f"Corpus {name!r} is not a TFDS builder class but {builder_class!r}.")
    return builder_class
