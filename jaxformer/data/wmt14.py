"""WMT14 English-German and English-French, the paper's corpora (section 5.1), as TFDS builds them.

Reading what TFDS's `Wmt14Translate` wrote in array_record form needs no TensorFlow; preparing it
does, since the builder unpacks its downloads with it.
"""

import importlib
import importlib.util
import os
import re
from pathlib import Path

import tensorflow_datasets as tfds

from jaxformer.data.prepare import Prepared, prepare_builder

_LANGUAGES = ("de", "fr")
_DATASET = "wmt14_translate"


def prepare(
    data_dir: Path, manual_dir: Path | None, *, source: str = "en", target: str = "de"
) -> Prepared:
    """Finds the prepared pair, in either direction, or prepares it if TensorFlow is installed.

    Prepared data is looked for as `wmt14_translate/<pair>/<version>` in `data_dir`, `manual_dir`,
    `$JAXFORMER_DATA`, `$TFDS_DATA_DIR` and `~/tensorflow_datasets`.

    Raises: ValueError for other languages, for prepared data in a form that only TensorFlow reads,
        or if there is none and TensorFlow is not installed; ConnectionError if a download fails.
    """
    pairs = {frozenset((language, "en")): f"{language}-en" for language in _LANGUAGES}
    pair = pairs.get(frozenset((source, target)))
    if pair is None:
        raise ValueError(
            f"Corpus 'wmt14' translates between en and {' or '.join(_LANGUAGES)}, got "
            f"source={source!r} and target={target!r}."
        )
    folders = _folders(data_dir, manual_dir)
    versions = [path for folder in folders for path in _versions(folder / _DATASET / pair)]
    for directory in versions:
        formats = tfds.builder_from_directory(directory).info.available_file_formats()
        if tfds.core.FileFormat.ARRAY_RECORD in formats:
            return Prepared(directory, source, target)
    if versions:
        raise ValueError(
            f"{versions[0]} holds no array_record files, the form that is read without TensorFlow; "
            "convert it where TensorFlow is installed with `tfds convert_format "
            f"--dataset_version_dir={versions[0]} --out_file_format=array_record`."
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            f"WMT14 {pair} is not prepared in any of {', '.join(map(str, folders))}, and preparing "
            "it needs TensorFlow and the network: run `pip install 'jaxformer[wmt]'`, or set "
            f"data.data_dir to a folder that holds {_DATASET}/{pair} in array_record form."
        )
    return Prepared(_download(pair, data_dir, manual_dir), source, target)


def _download(pair: str, data_dir: Path, manual_dir: Path | None) -> Path:
    builder_class = importlib.import_module("tensorflow_datasets.translate.wmt14").Wmt14Translate
    try:
        builder = prepare_builder(
            builder_class, data_dir, manual_dir=manual_dir, is_quiet=False, config=pair
        )
    except (OSError, tfds.download.DownloadError) as error:
        raise ConnectionError(
            f"TFDS could not download and prepare WMT14 {pair} ({error}); what it has downloaded "
            f"is kept under {data_dir / 'downloads'}, so start again when the network is there."
        ) from error
    return Path(builder.data_path)


def _folders(data_dir: Path, manual_dir: Path | None) -> list[Path]:
    named = [os.environ.get(name) for name in ("JAXFORMER_DATA", "TFDS_DATA_DIR")]
    folders = [data_dir, manual_dir, *named, Path.home() / "tensorflow_datasets"]
    return [Path(folder) for folder in folders if folder]


def _versions(directory: Path) -> list[Path]:
    """Finished version directories, the newest first."""
    found = [path.parent for path in directory.glob("*/dataset_info.json")]
    finished = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return sorted(finished, key=lambda path: tfds.core.Version(path.name), reverse=True)
