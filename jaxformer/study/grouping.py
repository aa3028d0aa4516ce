"""Which trainings of a sweep may go together in one program."""

from collections.abc import Mapping, Sequence
from typing import Any

MAY_DIFFER = (
    "train.seed",
    "train.dropout_rate",
    "train.label_smoothing",
    "optimizer.learning_rate",
    "optimizer.warmup_steps",
)
"""What is a value within the program (`jaxformer.train.Hyper`, and the seed); all else makes it."""


def group(configs: Sequence[Mapping[str, Any]], most: int | None = None) -> list[list[int]]:
    """Returns which of the settings may be trained together, as lists of their indices.

    Those of a group are equal but for MAY_DIFFER. Groups come in the order of their first members,
    and each is in order.

    Args:
      configs: resolved settings, {group: {name: value}}, as in config.json.
      most: members of a group, for instance because of memory; a larger group is parted as evenly
        as can be. None for no limit.

    Raises: ValueError if `most` is below 1.
    """
    if most is not None and most < 1:
        raise ValueError(f"At most {most} members of a group leave no group. Allow 1 or more.")
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, config in enumerate(configs):
        groups.setdefault(tuple(sorted(_fixed(config).items())), []).append(index)
    parted = []
    for members in groups.values():
        parts = -(-len(members) // (most or len(members)))
        ends = [len(members) * part // parts for part in range(parts + 1)]
        parted += [members[ends[part] : ends[part + 1]] for part in range(parts)]
    return sorted(parted)


def differences(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the dotted keys, sorted, in which settings differ that may not within a group."""
    fixed = [_fixed(config) for config in configs]
    keys = sorted({key for settings in fixed for key in settings})
    absent = object()
    return [
        key
        for key in keys
        if any(settings.get(key, absent) != fixed[0].get(key, absent) for settings in fixed)
    ]


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{name}.{field}": value
        for name, fields in config.items()
        for field, value in fields.items()
        if f"{name}.{field}" not in MAY_DIFFER
    }
