"""Rows of a table: the members of a sweep that differ in nothing but their seed."""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxformer.io.record import flatten
from jaxformer.study.manifest import BASE
from jaxformer.study.records import Member, Scores

_SEED = "train.seed"


@dataclasses.dataclass(frozen=True)
class Row:
    """Runs of the same settings with different seeds.

    Attributes:
      group, label: as in the manifest.
      members: by seed.
      settings: dotted key -> value, the seed left out, d_k and d_v as the model has them.
    """

    group: str
    label: str
    members: tuple[Member, ...]
    settings: Mapping[str, Any]

    @property
    def is_base(self) -> bool:
        """Whether others are compared with it."""
        return self.label == BASE

    @property
    def scores(self) -> dict[int, Scores]:
        """Seed -> scores, of finished members."""
        return {member.seed: member.scores for member in self.members if member.scores}

    @property
    def state(self) -> str:
        """Either "finished", "partly" (some of the seeds), "unfinished" or "missing"."""
        if self.scores:
            return "finished" if len(self.scores) == len(self.members) else "partly"
        is_begun = any(member.state == "unfinished" for member in self.members)
        return "unfinished" if is_begun else "missing"

    @property
    def letter(self) -> str:
        """Is "A" for the group `a_heads`, "base" for base, else the group's name."""
        if self.is_base:
            return BASE
        return _letter(self.group) or self.group

    @property
    def parameters(self) -> int | None:
        """Of the model, where a finished member's record says so."""
        return next((each.parameters for each in self.scores.values() if each.parameters), None)


@dataclasses.dataclass(frozen=True)
class Spread:
    """Values over seeds.

    Attributes:
      mean: None without values.
      deviation: the standard deviation, with n - 1; None for fewer than two, or if not all are
        finite.
      values: seed -> value.
    """

    mean: float | None
    deviation: float | None
    values: Mapping[int, float]


def make_rows(members: Iterable[Member]) -> list[Row]:
    """Sorts members into rows: base, the groups (A), (B) and so on, then others as they come.

    Base stands in its group where there are several. Rows of a group stay as they first come.


    Raises: ValueError if members of a row differ in more than their seed, or lack a setting that a
      table is made of.
    """
    places: dict[str, dict[str, list[Member]]] = {}
    for member in members:
        places.setdefault(member.group, {}).setdefault(member.row, []).append(member)
    rows = [
        _make_row(sorted(found, key=lambda member: member.seed))
        for group in places.values()
        for found in group.values()
    ]
    has_one_base = sum(row.is_base for row in rows) == 1
    return sorted(rows, key=lambda row: _place(row, has_one_base))


def base_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The row that `row` is compared with: base of its group, else the first base there is."""
    bases = sorted((r for r in rows if r.is_base), key=lambda base: base.group != row.group)
    return bases[0] if bases else None


def varying(rows: Sequence[Row]) -> list[str]:
    """The dotted keys of settings that are not the same in all rows, in the order of the config."""
    return [
        key
        for key in dict.fromkeys(key for row in rows for key in row.settings)
        if any(row.settings.get(key) != rows[0].settings.get(key) for row in rows)
    ]


def spread(values: Mapping[int, float]) -> Spread:
    """Mean and standard deviation of seed -> value."""
    if not values:
        return Spread(None, None, {})
    numbers = list(values.values())
    # Of infinities there is a mean, and nothing else that means anything.
    is_finite = all(map(math.isfinite, numbers))
    deviation = statistics.stdev(numbers) if is_finite and len(numbers) > 1 else None
    return Spread(sum(numbers) / len(numbers), deviation, dict(values))


def _place(row: Row, has_one_base: bool) -> tuple[int, str]:
    if has_one_base and row.is_base:
        return 0, ""
    letter = _letter(row.group)
    return (1, letter) if letter else (2, "")


def _letter(group: str) -> str:
    """Returns "A" for `a_heads`, "" for what is not named so."""
    found = re.fullmatch(r"([a-z])_\w+", group)
    return found[1].upper() if found else ""


def _make_row(members: Sequence[Member]) -> Row:
    first = members[0]
    flat = [_settings(member) for member in members]
    for member, settings in zip(members, flat, strict=True):
        for key in settings.keys() | flat[0].keys():
            if settings.get(key) != flat[0].get(key):
                raise ValueError(
                    f"{member.id} has {key}={settings.get(key)!r} in the manifest, where "
                    f"{first.id} of the same row has {flat[0].get(key)!r}. Give them rows of their "
                    "own."
                )
    return Row(first.group, first.row, tuple(members), flat[0])


def _settings(member: Member) -> dict[str, Any]:
    flat = flatten(member.config)
    flat.pop(_SEED, None)
    needed = ("num_encoder_layers", "num_decoder_layers", "d_model", "d_ff", "num_heads")
    numbers = [
        *(f"model.{name}" for name in (*needed, "d_k", "d_v")),
        "train.dropout_rate",
        "train.label_smoothing",
    ]
    for key in numbers:
        if type(flat.get(key)) not in (int, float):
            raise ValueError(
                f"{member.id} has {key}={flat.get(key)!r} in the manifest, expected a number. Make "
                "the manifest again."
            )
    # Last, for they may follow from the others.
    for key in ("model.d_k", "model.d_v"):
        width = flat.pop(key)
        flat[key] = width or flat["model.d_model"] // max(1, flat["model.num_heads"])
    return flat
