"""Where raw and prepared corpora live, and how a TFDS builder prepares one.

Prepared data is array_record, so that reading needs no TensorFlow.
"""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

_LONGEST_REASON = 120


class Prepared(NamedTuple):
    """A TFDS version directory on disk, and which text columns are source and target."""

    directory: Path
    source: str
    target: str


def default_data_dir() -> Path:
    """`$XDG_CACHE_HOME/jaxformer/datasets`, or the same under `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "jaxformer" / "datasets"


def raw_folders(corpus: str, data_dir: Path, manual_dir: Path | None) -> list[Path]:
    """Folders in which a user may have put a corpus's raw files, the first to be tried first.

    `manual_dir` itself or its subfolder `corpus`; then that subfolder of `$JAXFORMER_DATA`; then
    of TFDS's manual directory.
    """
    folders = [manual_dir, manual_dir / corpus] if manual_dir else []
    if shared := os.environ.get("JAXFORMER_DATA"):
        folders.append(Path(shared) / corpus)
    return [*folders, data_dir / "downloads" / "manual" / corpus]


def prepare_builder(
    builder_class: Callable[..., tfds.core.DatasetBuilder],
    data_dir: Path,
    *,
    manual_dir: Path | None = None,
    is_quiet: bool = True,
    **arguments: Any,
) -> tfds.core.DatasetBuilder:
    """Makes a builder and, where this has not been done yet, prepares its data.

    TFDS writes to a directory of a random name and renames it when all is written, so a killed
    process leaves nothing that looks finished, and the slower of two processes finds the name
    taken: it then uses what the other one made.

    Args:
        builder_class: a subclass of TFDS's builders, as a rule `tfds.core.GeneratorBasedBuilder`.
        data_dir: folder of all prepared data.
        manual_dir: folder of raw files, for builders that ask TFDS for it.
        is_quiet: False for TFDS's progress bars, which a download of gigabytes needs.
        **arguments: further arguments of the builder, such as `config`.
    """
    with _silence() if is_quiet else contextlib.nullcontext():
        # A builder reads what it has prepared before.
        folder = data_dir / str(getattr(builder_class, "name", ""))
        with told_if_damaged(folder) if folder.exists() else contextlib.nullcontext():
            builder = builder_class(data_dir=data_dir, file_format="array_record", **arguments)
        if not builder.data_path.exists():
            config = tfds.download.DownloadConfig(manual_dir=manual_dir)
            try:
                builder.download_and_prepare(download_config=config)
            except OSError:
                if not builder.data_path.exists():
                    raise
        return builder


@contextlib.contextmanager
def told_if_damaged(folder: Path) -> Generator[None]:
    """Gives one name to all that reading prepared files raises when they are not as they were.

    Raises: ValueError; PermissionError, which says what to do without it.
    """
    try:
        yield
    except (PermissionError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"The prepared data in {folder} cannot be read ({reason[:_LONGEST_REASON]}). Remove "
            "that folder, and it is prepared anew."
        ) from error


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Hushes TFDS, which reports on stdout, by progress bars and through absl's logger."""
    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
