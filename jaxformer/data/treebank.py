"""Treebanks for parsing: the words of a sentence against its linear tree (section 6.3).

By default CRAFT, the gold trees of 97 biomedical articles (Verspoor et al., 2012; CC BY 3.0), from
files that docs/parsing.md says how to make; or any files of bracketed trees that the user names.
The prepared data is named by a hash of the files' contents.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxformer.data.plain_text import check_unchanged, content_key, find_file, lines_of
from jaxformer.data.prepare import Prepared, prepare_builder, raw_folders
from jaxformer.trees.bracketed import Tree, leaves, read_trees
from jaxformer.trees.linear import linearise
from jaxformer.trees.plain import plain

COLUMNS = ("words", "brackets")
CRAFT = {"train": "craft-train.ptb.gz", "valid": "craft-dev.ptb.gz", "test": "craft-test.ptb.gz"}


# Before the names of what CRAFT's own files are prepared to.
_CRAFT = "craft-"


@dataclass
class TreebankConfig(tfds.core.BuilderConfig):
    """The file of every split, and the `joiner` of `read_trees`; `name` is a hash of the files."""

    files: dict[str, Path] = field(default_factory=dict, repr=False)
    joiner: str | None = None


class Treebank(tfds.core.GeneratorBasedBuilder):
    """Words and brackets of every tree that holds a word, in the order of the files."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The words of sentences, and their trees as brackets and tags.",
            features=tfds.features.Translation(COLUMNS),
            disable_shuffling=True,
        )

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        config = self.builder_config
        files = {split: [path] for split, path in config.files.items()}
        check_unchanged(files, config.name.removeprefix(_CRAFT))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        config = self.builder_config
        return {
            split: self._generate_examples(read_plain(file, config.joiner))
            for split, file in config.files.items()
        }

    def _generate_examples(self, trees: Iterable[Tree]) -> Iterator[tuple[int, dict]]:
        for number, tree in enumerate(trees):
            words, brackets = as_pair(tree)
            yield number, {"words": words, "brackets": brackets}


def prepare(
    data_dir: Path,
    manual_dir: Path | None,
    *,
    source: str = "words",
    target: str = "brackets",
    train_target: str = "",
    valid_target: str = "",
    test_target: str = "",
) -> Prepared:
    """Prepares the named files of bracketed trees, gzip or not; CRAFT's if none is named.

    Raises: ValueError if source and target are not words and brackets, a file is missing, or it is
        no UTF-8 text of bracketed trees.
    """
    if (source, target) != COLUMNS:
        raise ValueError(
            f"Corpus 'treebank' parses words to brackets, got source={source!r} and "
            f"target={target!r}. Set data.source=words and data.target=brackets."
        )
    named = find_files(
        manual_dir, train_target=train_target, valid_target=valid_target, test_target=test_target
    )
    paths = named or _find_craft(raw_folders("treebank", data_dir, manual_dir))
    key = content_key({split: [path] for split, path in paths.items()})
    config = TreebankConfig(name=key, files=paths)
    if not named:
        # Five of CRAFT's words are written with a space in them: (NN Xpd TTD).
        config = TreebankConfig(name=f"{_CRAFT}{key}", files=paths, joiner="")
    builder = prepare_builder(Treebank, data_dir, config=config)
    return Prepared(Path(builder.data_path), *COLUMNS)


def find_files(manual_dir: Path | None, **named: str) -> dict[str, Path]:
    """Returns split -> its file, of those splits that have one.

    Args:
      named: as for `prepare`.

    Raises: ValueError if one is missing.
    """
    names = {split: named.get(f"{split}_target", "") for split in ("train", "valid", "test")}
    return {split: find_file(name, manual_dir) for split, name in names.items() if name}


def read_plain(path: Path, joiner: str | None = None) -> Iterator[Tree]:
    """Yields a file's trees in their plain form, but for those without a word.

    Args:
      joiner: as for `read_trees`.

    Raises: ValueError as `lines_of` and `read_trees`.
    """
    trees = read_trees("\n".join(lines_of(path)), str(path), joiner=joiner)
    return (tree for tree in map(plain, trees) if tree is not None)


def as_pair(tree: Tree) -> tuple[str, str]:
    """Returns what the parser reads and what it is to write: the words, and the linear tree."""
    return " ".join(leaf.word for leaf in leaves(tree)), linearise(tree)


def _find_craft(folders: list[Path]) -> dict[str, Path]:
    for folder in folders:
        if all((folder / name).is_file() for name in CRAFT.values()):
            return {split: folder / name for split, name in CRAFT.items()}
    raise ValueError(
        f"The treebank's files {', '.join(CRAFT.values())} are not together in any of "
        f"{', '.join(map(str, folders))}. Put them there (docs/parsing.md says how they are made), "
        "or name files of bracketed trees in data.train_target, data.valid_target and "
        "data.test_target."
    )
