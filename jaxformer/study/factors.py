"""What scores are drawn against, and which rows of a sweep make a line."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from jaxformer.study.rows import Row, varying

_SYMBOLS = {
    "model.num_heads": "h",
    "train.dropout_rate": "dropout",
    "train.label_smoothing": "smoothing",
    "train.num_steps": "steps",
}

Settings = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Factor:
    """A setting that scores are drawn against.

    Attributes:
      name: of the files.
      about: for a title, after "against".
      label: of the axis.
      key: of the setting.
      own: keys that may differ along a line.
      kept: settings -> what else rows on a line have in common; the next is tried where one gives
        no line.
    """

    name: str
    about: str
    label: str
    key: str
    own: frozenset[str]
    kept: tuple[Callable[[Settings], Hashable], ...] = (lambda settings: None,)

    def place(self, row: Row) -> float:
        """Where the row stands on the axis."""
        return float(row.settings[self.key])


def _width(settings: Settings) -> Hashable:
    """Heads times their width, which the paper's row (A) keeps."""
    heads = settings["model.num_heads"]
    return heads * settings["model.d_k"], heads * settings["model.d_v"]


def _head(settings: Settings) -> Hashable:
    return settings["model.d_k"], settings["model.d_v"]


PAPERS = (
    Factor(
        name="heads",
        about="heads",
        label="attention heads, h",
        key="model.num_heads",
        own=frozenset(("model.num_heads", "model.d_k", "model.d_v")),
        kept=(_width, _head),
    ),
    Factor(
        name="key_size",
        about="key size",
        label="width of a head's keys, d_k (numbers)",
        key="model.d_k",
        own=frozenset(("model.d_k",)),
    ),
    Factor(
        name="dropout",
        about="dropout",
        label="dropout (probability)",
        key="train.dropout_rate",
        own=frozenset(("train.dropout_rate",)),
    ),
)


def other_factors(rows: Sequence[Row]) -> list[Factor]:
    """One factor for each number that varies, those of `PAPERS` left out."""
    known = frozenset().union(*(factor.own for factor in PAPERS))
    return [
        Factor(re.sub(r"\W+", "_", key), key, key, key, frozenset((key,)))
        for key in varying(rows)
        if key not in known and all(type(row.settings.get(key)) in (int, float) for row in rows)
    ]


def lines(factor: Factor, rows: Sequence[Row]) -> list[list[Row]]:
    """Scored rows that differ along the factor only, in the order of their places.

    A line has two places or more. Where the sweep has a base, every line goes through one; else
    there is a line for each choice of the other settings.
    """
    scored = [row for row in rows if points(row, "bleu")]
    has_base = any(row.is_base for row in rows)
    for kept in factor.kept:
        found: dict[Hashable, list[Row]] = {}
        for row in scored:
            found.setdefault((_others(row, factor), kept(row.settings)), []).append(row)
        kept_lines = [
            sorted(line, key=factor.place)
            for line in found.values()
            if len(set(map(factor.place, line))) > 1
            and (not has_base or any(row.is_base for row in line))
        ]
        if kept_lines:
            return kept_lines
    return []


def line_names(factor: Factor, found: Sequence[Sequence[Row]]) -> list[str]:
    """What tells each line from the others, such as "d_ff=64"; "" for a single line.

    A setting that follows from those before it, as the heads' width may, is left out.
    """
    firsts = [line[0] for line in found]
    keys: list[str] = []
    for key in varying(firsts):
        if key not in factor.own and _count(firsts, [*keys, key]) > _count(firsts, keys):
            keys.append(key)
    return [
        ", ".join(f"{key.rpartition('.')[2]}={_short(row.settings.get(key))}" for key in keys)
        for row in firsts
    ]


def settings_name(row: Row, base: Row) -> str:
    """What a row changes of base, by the paper's names: "h=2", "N=6", "d_model=64, d_ff=128"."""
    settings = dict(row.settings)
    for key in ("model.d_k", "model.d_v"):
        if settings[key] == settings["model.d_model"] // settings["model.num_heads"]:
            del settings[key]
    changed = {key: value for key, value in settings.items() if value != base.settings.get(key)}
    encoder, decoder = (changed.get(f"model.num_{half}coder_layers") for half in ("en", "de"))
    if encoder is not None and encoder == decoder:
        del changed["model.num_encoder_layers"], changed["model.num_decoder_layers"]
        changed = {"N": encoder, **changed}
    return ", ".join(
        f"{_SYMBOLS.get(key, key.rpartition('.')[2])}={_short(value)}"
        for key, value in changed.items()
    )


def points(row: Row, score: str) -> list[float]:
    """The finite scores of a row's seeds; score: "bleu" or "perplexity"."""
    values = [float(getattr(each, score)) for each in row.scores.values()]
    return [value for value in values if math.isfinite(value)]


def _count(rows: Sequence[Row], keys: Sequence[str]) -> int:
    """How many different rows there are as far as those settings go."""
    return len({tuple(repr(row.settings.get(key)) for key in keys) for row in rows})


def _others(row: Row, factor: Factor) -> Hashable:
    return tuple(
        (key, repr(value)) for key, value in sorted(row.settings.items()) if key not in factor.own
    )


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).rpartition(":")[2]
