"""Line-aligned text files that the user names: line n of one is the translation of line n of other.

Files are UTF-8, compressed by gzip or not. The prepared data is named by a hash of the files'
contents, so a changed file is prepared anew and an unchanged one never is.
"""

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from jaxformer.data.prepare import Prepared, prepare_builder
from jaxformer.files import user_path

_GZIP_MAGIC = b"\x1f\x8b"


class File(NamedTuple):
    """A file's path, for messages, and its bytes."""

    path: Path
    data: bytes


@dataclass
class PlainTextConfig(tfds.core.BuilderConfig):
    """The source and target file of every split; `name` is a hash of their contents."""

    files: dict[str, list[File]] = field(default_factory=dict, repr=False)


class PlainText(tfds.core.GeneratorBasedBuilder):
    """The user's pairs, in the order of the files."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Line-aligned text files.",
            features=tfds.features.Translation(("source", "target")),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        files = self.builder_config.files
        return {split: self._generate_examples(_align(*files[split])) for split in files}

    def _generate_examples(self, pairs: list[tuple[str, str]]) -> Iterator[tuple[int, dict]]:
        for number, (source, target) in enumerate(pairs):
            yield number, {"source": source, "target": target}


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
    contents = {
        split: [File(path, path.read_bytes()) for path in sides] for split, sides in paths.items()
    }
    config = PlainTextConfig(name=content_key(contents), files=contents)
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


def content_key(contents: Mapping[str, Sequence[File]]) -> str:
    """Returns a name for the files of the splits, which is another if any of them changes."""
    digest = hashlib.sha256()
    for split, files in contents.items():
        digest.update(split.encode())
        for file in files:
            digest.update(hashlib.sha256(file.data).digest())
    return digest.hexdigest()[:32]


def _align(source: File, target: File) -> list[tuple[str, str]]:
    sources, targets = read_lines(*source), read_lines(*target)
    if len(sources) != len(targets):
        raise ValueError(
            f"{source.path} has {len(sources)} lines and {target.path} has {len(targets)}; line n "
            "of one must be the translation of line n of the other."
        )
    return list(zip(sources, targets, strict=True))


def read_lines(path: Path, data: bytes) -> list[str]:
    r"""The lines of a UTF-8 file's bytes, gzip or not, without white space at their ends.

    Only "\n" ends a line: the further separators of Unicode occur within sentences. A byte order
    mark is no text.

    Raises: ValueError if there is no text, or bytes that are no UTF-8 (naming the line).
    """
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}.") from error
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path} is not UTF-8 in line {line} ({error.reason}); convert the file to UTF-8."
        ) from error
    if not text.strip():
        raise ValueError(f"{path} is empty; it must hold one sentence a line.")
    return [line.strip() for line in text.removesuffix("\n").split("\n")]
