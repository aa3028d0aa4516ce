"""A parallel text of made-up words in any size, with lengths and frequencies as WMT's have them."""

from pathlib import Path

import numpy as np

_WORDS = 600_000
"""Of either language."""

_PAIRS_AT_A_TIME = 10_000


def write_text(folder: Path, pairs: int) -> None:
    """Writes `train.source` and `train.target`; the first lines of more pairs are those of fewer.

    Words are drawn from a Zipf-Mandelbrot distribution and made of syllables, a rare one of more,
    so that they have pieces in common. Lengths are log-normal, 25 words on average, and those of
    the two sides go together.
    """
    languages = [_words(seed) for seed in (1, 2)]
    ends = np.cumsum(1 / (np.arange(_WORDS) + 2.7) ** 1.05)
    ends /= ends[-1]
    paths = [folder / "train.source", folder / "train.target"]
    with open(paths[0], "w", encoding="utf-8") as one, open(paths[1], "w", encoding="utf-8") as two:
        for start in range(0, pairs, _PAIRS_AT_A_TIME):
            generator = np.random.default_rng([3, start])
            source = generator.normal(3.05, 0.6, _PAIRS_AT_A_TIME)
            target = source + generator.normal(0.0, 0.2, _PAIRS_AT_A_TIME)
            for file, words, logarithms in zip(
                (one, two), languages, (source, target), strict=True
            ):
                lengths = np.clip(np.exp(logarithms).round().astype(int), 1, 250)
                drawn = words[np.searchsorted(ends, generator.random(lengths.sum()))].tolist()
                lines = _cut(drawn, lengths)[: pairs - start]
                file.write("".join(f"{' '.join(line)}\n" for line in lines))


def _words(seed: int) -> np.ndarray:
    """Returns a language's words, the most frequent first; some occur twice."""
    generator = np.random.default_rng(seed)
    syllables = [
        first + vowel + last
        for first in "bcdfghjklmnprstvwz"
        for vowel in "aeiou"
        for last in ("", "", "n", "r", "s")
    ]
    weights = 1 / np.arange(1, len(syllables) + 1)
    more = generator.poisson(0.4 * np.log10(np.arange(1, _WORDS + 1)))
    lengths = 1 + np.minimum(more, 7)
    drawn = generator.choice(
        generator.permutation(syllables), lengths.sum(), p=weights / weights.sum()
    )
    return np.array(["".join(word) for word in _cut(drawn.tolist(), lengths)], object)


def _cut(items: list[str], lengths: np.ndarray) -> list[list[str]]:
    """Returns the items in parts of these lengths, one after another."""
    ends = np.cumsum(lengths).tolist()
    return [items[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
