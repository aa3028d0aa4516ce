"""Line-aligned text files that the user names: line n of one is the translation of line n of other.

Files are UTF-8, compressed by gzip or not. The prepared data is named by a hash of the files'
contents, so a changed file is prepared anew and an unchanged one never is.
"""

import codecs
import gzip
import hashlib
import io
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import tensorflow_datasets as tfds

from jaxformer.data.prepare import Prepared, prepare_builder
from jaxformer.files import user_path

_GZIP_MAGIC = b"\x1f\x8b"

# TFDS holds a shard's pairs in memory until it is written.
_PAIRS_A_SHARD = 100_000


@dataclass
class PlainTextConfig(tfds.core.BuilderConfig):
    """The source and target file of every split; `name` is a hash of their contents."""

    files: dict[str, list[Path]] = field(default_factory=dict, repr=False)


class PlainText(tfds.core.ShardBasedBuilder):
    """The user's pairs, in the order of the files."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Line-aligned text files.",
            features=tfds.features.Translation(("source", "target")),
            disable_shuffling=True,
        )

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        check_unchanged(self.builder_config.files, self.builder_config.name)

    def _shard_iterators_per_split(
        self, dl_manager: Any
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, dict]]]]]:
        shards: dict[str, list[Callable[[], Iterator[tuple[int, dict]]]]] = {}
        for split, files in self.builder_config.files.items():
            num_shards = -(-_count(*files) // _PAIRS_A_SHARD)
            # The shards are written one after another.
            examples = enumerate(
                {"source": source, "target": target}
                for source, target in zip(*map(lines_of, files), strict=True)
            )
            shards[split] = [partial(itertools.islice, examples, _PAIRS_A_SHARD)] * num_shards
        return shards


def prepare(
    data_dir: Path,
    manual_dir: Path | None,
    *,
    train_source: str = "",
    train_target: str = "",
    valid_source: str = "",
    valid_target: str = "",
    test_source: str = "",
    test_target: str = "",
    source: str = "",
    target: str = "",
) -> Prepared:
    """Prepares the named files; a relative path that does not exist is looked for in `manual_dir`.

    `source` and `target` are language codes, which change nothing here.

    Raises: ValueError if a split lacks one of its files, no split is named, a file is missing,
        empty, not UTF-8 or damaged, or two files differ in their number of lines.
    """
    paths = find_files(
        manual_dir,
        train_source=train_source,
        train_target=train_target,
        valid_source=valid_source,
        valid_target=valid_target,
        test_source=test_source,
        test_target=test_target,
    )
    config = PlainTextConfig(name=content_key(paths), files=paths)
    builder = prepare_builder(PlainText, data_dir, config=config)
    return Prepared(Path(builder.data_path), "source", "target")


def find_files(manual_dir: Path | None, **named: str) -> dict[str, list[Path]]:
    """Returns split -> its source and target file.

    Args:
      named: as for `prepare`.

    Raises: ValueError as `prepare`, without reading any.
    """
    found: dict[str, list[Path]] = {}
    for split in ("train", "valid", "test"):
        names = {side: named.get(f"{split}_{side}", "") for side in ("source", "target")}
        if not any(names.values()):
            continue
        for side, name in names.items():
            if not name:
                raise ValueError(
                    f"Split {split!r} lacks a file: set data.{split}_{side} beside its other side."
                )
        found[split] = [find_file(name, manual_dir) for name in names.values()]
    if not found:
        raise ValueError(
            "Corpus 'plain_text' was given no files: set data.train_source and data.train_target."
        )
    return found


def find_file(name: str, manual_dir: Path | None) -> Path:
    """Returns where the named file is: as the path says, or else in `manual_dir`.

    Raises: ValueError if it is in neither place.
    """
    path = user_path(name)
    if not path.exists() and manual_dir is not None:
        path = manual_dir / path
    if not path.is_file():
        raise ValueError(f"The text file {name!r} does not exist; check its path.")
    return path


def content_key(files: Mapping[str, Sequence[Path]]) -> str:
    """Returns a name for the files of the splits, which is another if what they hold changes."""
    digest = hashlib.sha256()
    for split, paths in files.items():
        digest.update(split.encode())
        for path in paths:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def check_unchanged(files: Mapping[str, Sequence[Path]], key: str) -> None:
    """Compares what files hold with what they held when they were named.

    Raises: ValueError if that is something else.
    """
    if content_key(files) != key:
        names = ", ".join(str(path) for paths in files.values() for path in paths)
        raise ValueError(f"The text changed while it was read ({names}). Start again.")


def _count(source: Path, target: Path) -> int:
    """Returns how many lines either file has."""
    sources, targets = (sum(1 for _ in lines_of(path)) for path in (source, target))
    if sources != targets:
        raise ValueError(
            f"{source} has {sources} lines and {target} has {targets}; line n of one must be the "
            "translation of line n of the other."
        )
    return sources


def lines_of(path: Path) -> Iterator[str]:
    """Yields the lines of a file, which is not held in memory, as `read_lines` does.

    Raises: ValueError as `read_lines`.
    """
    with open(path, "rb") as file:
        yield from _lines(path, file)


def read_lines(path: Path, data: bytes) -> list[str]:
    r"""The lines of a UTF-8 file's bytes, gzip or not, without white space at their ends.

    Only "\n" ends a line: the further separators of Unicode occur within sentences. A byte order
    mark is no text.

    Raises: ValueError if there is no text, or bytes that are no UTF-8 (naming the line).
    """
    return list(_lines(path, io.BytesIO(data)))


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    is_empty, number = True, 0
    try:
        for number, line in enumerate(gzip.GzipFile(fileobj=file) if is_gzip else file, 1):
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode().strip()
            is_empty = is_empty and not text
            yield text
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 in line {number} ({error.reason}); convert the file to UTF-8."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}.") from error
    if is_empty:
        raise ValueError(f"{path} is empty; it must hold one sentence a line.")
