"""Multi30k, task 1: image captions in English, German and French (Elliott et al., 2016 and 2017).

29,000 training pairs, 1,014 of validation and the 1,000 of the 2016 Flickr test set. The captions
are for non-commercial research; they are read from the user's copy or from the public repository.
"""

import gzip
import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxformer.data.plain_text import read_lines
from jaxformer.data.prepare import Prepared, prepare_builder, raw_folders
from jaxformer.files import replace_file

URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
)
FILES = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
SHA256 = {
    "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.fr.gz": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.fr.gz": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.fr.gz": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
}
_SECONDS_TO_ANSWER = 60


@dataclass
class Multi30kConfig(tfds.core.BuilderConfig):
    """English and one other language; `name` is "de-en" or "fr-en"."""

    language: str = "de"
    folders: list[Path] = field(default_factory=list)
    download_dir: Path = Path()


class Multi30k(tfds.core.GeneratorBasedBuilder):
    """The captions of one language pair, in the order of the files."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Multi30k task 1: English image captions and their translations.",
            homepage="https://github.com/multi30k/dataset",
            features=tfds.features.Translation((self.builder_config.language, "en")),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        return {split: self._generate_examples(stem) for split, stem in FILES.items()}

    def _generate_examples(self, stem: str) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        sides = {
            language: _lines(f"{stem}.{language}.gz", config.folders, config.download_dir)
            for language in (config.language, "en")
        }
        for number, texts in enumerate(zip(*sides.values(), strict=True)):
            yield number, dict(zip(sides, texts, strict=True))


def prepare(
    data_dir: Path, manual_dir: Path | None, *, source: str = "en", target: str = "de"
) -> Prepared:
    """Prepares English and German or English and French, in either direction.

    Raises: ValueError for other languages, or for a file that differs from the published one;
        ConnectionError if a file is neither at hand nor to be downloaded.
    """
    if {source, target} not in ({"de", "en"}, {"fr", "en"}):
        raise ValueError(
            f"Corpus 'multi30k' translates between en and de or en and fr, got source={source!r} "
            f"and target={target!r}."
        )
    language = target if source == "en" else source
    config = Multi30kConfig(
        name=f"{language}-en",
        language=language,
        folders=raw_folders("multi30k", data_dir, manual_dir),
        download_dir=data_dir / "downloads" / "multi30k",
    )
    builder = prepare_builder(Multi30k, data_dir, config=config)
    return Prepared(Path(builder.data_path), source, target)


def _lines(name: str, folders: list[Path], download_dir: Path) -> list[str]:
    """The lines of one published file, from the user's folders, an earlier download or a new one.

    Files are compared with their checksum wherever they come from.
    """
    for folder in (*folders, download_dir):
        if (folder / name).is_file():
            path = folder / name
            break
    else:
        path = _download(name, folders, download_dir)
    data = path.read_bytes()
    got = hashlib.sha256(data).hexdigest()
    if got != SHA256[name]:
        raise ValueError(
            f"{path} has the sha256 {got}, expected {SHA256[name]}; delete it and put the "
            f"published file in its place, from {URL}{name}."
        )
    return read_lines(path, gzip.decompress(data))


def _download(name: str, folders: list[Path], download_dir: Path) -> Path:
    try:
        with urllib.request.urlopen(URL + name, timeout=_SECONDS_TO_ANSWER) as response:
            data = response.read()
    except OSError as error:
        places = ", ".join(str(folder) for folder in folders)
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConnectionError(
            f"Multi30k's {name} is in none of {places} and {URL}{name} cannot be downloaded "
            f"({reason}); put the file in one of these folders."
        ) from error
    path = download_dir / name
    replace_file(path, data)
    return path
