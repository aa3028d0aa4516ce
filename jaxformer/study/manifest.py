"""The manifest of a sweep: which trainings belong to it, whatever machine runs them.

    manifest.json
    <group>/<row>/seed=<n>/     a member's workdir

A row is one line of a table; a member is a row with a seed. What runs members, here or elsewhere,
reads nothing but the manifest and writes nothing but workdirs.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxformer.files import as_path, read_json, replace_file

VERSION = 1
BASE = "base"
"""Label of the row that the others are compared with."""
SPLIT = "valid"
"""The split that members are scored on: test sets are for what a study has chosen."""

_LONGEST_NAME = 100
_PROTOCOL = "--protocol="


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table, before it is given seeds.

    Attributes:
      group: the table's part that it belongs to.
      label: unique in its group.
      overrides: dotted key -> value: what makes this row.
      paper: the paper's figures, None if it has none.
      config: resolved settings; their seed does not matter.
      arguments: of `jaxformer train`, without seed and workdir.
    """

    group: str
    label: str
    overrides: Mapping[str, Any]
    paper: Mapping[str, float] | None
    config: Mapping[str, Any]
    arguments: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Member:
    """A row with a seed; the fields are those of the manifest.

    Attributes:
      id: unique in the sweep.
      group, row, overrides, paper: as `Row` has them.
      seed: of the training.
      config: resolved settings, as the workdir's config.json will hold them.
      argv, evaluate: command lines that train and then score it.
      workdir: relative to the manifest's folder.
    """

    id: str
    group: str
    row: str
    seed: int
    overrides: Mapping[str, Any]
    paper: Mapping[str, float] | None
    config: Mapping[str, Any]
    argv: Sequence[str]
    evaluate: Sequence[str]
    workdir: str

    @property
    def num_steps(self) -> int:
        """Steps of its training."""
        return self.config["train"]["num_steps"]

    @property
    def protocol(self) -> str:
        """By which it is to be scored besides sacreBLEU; "" for none."""
        found = (argument for argument in self.evaluate if argument.startswith(_PROTOCOL))
        return next(found, "").removeprefix(_PROTOCOL)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A sweep.

    Attributes:
      scale: of the config files' rows; "" for an ad-hoc sweep.
      members: in the order of running.
      split: the split that members are scored on.
    """

    scale: str
    members: Sequence[Member]
    split: str = SPLIT


def expand(
    rows: Sequence[Row], seeds: Iterable[int], folder: str, protocol: str = ""
) -> list[Member]:
    """Returns every row with every seed: all rows with the least seed first, and base's before all.

    Args:
      rows: in the table's order.
      folder: of the sweep, as command lines name it.
      protocol: by which members are to be scored besides sacreBLEU; "" for none.

    Raises: ValueError if two rows of a group have the same label, or there is a seed twice.
    """
    names = Counter((row.group, row.label) for row in rows)
    for (group, label), count in names.items():
        if count > 1:
            raise ValueError(f"{group} has {count} rows {label!r}. Give each a name of its own.")
    seeds = list(seeds)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"A seed is there twice: {', '.join(map(str, seeds))}. Leave one out.")
    ordered = sorted(rows, key=lambda row: row.label != BASE)
    return [_member(row, seed, folder, protocol) for seed in sorted(seeds) for row in ordered]


def extend(before: Manifest, now: Manifest, option: str = "--workdir") -> Manifest:
    """Returns a manifest of the members of both; where both have one, it is that of `now`.

    Args:
      option: by which the user chose the folder that `before` is in, for messages.

    Raises: ValueError if they are of different scales.
    """
    if before.scale != now.scale:
        raise ValueError(
            f"The sweep that is there is {_describe(before)}, and this one {_describe(now)}. Give "
            f"another {option}."
        )
    ids = {member.id for member in now.members}
    members = [*(member for member in before.members if member.id not in ids), *now.members]
    members.sort(key=lambda member: (member.seed, member.row != BASE))
    return dataclasses.replace(now, members=members)


def folder_name(label: str) -> str:
    """Returns a name for a folder that is safe in any shell and file system.

    It is the label itself where that is safe, and otherwise like it, with the start of its hash.
    """
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", label)[:_LONGEST_NAME]
    if name == label and re.match(r"[A-Za-z0-9]", name):
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{name.strip('_.-') or 'row'}-{digest}"


def read_manifest(folder: str | os.PathLike[str]) -> Manifest | None:
    """Reads folder/manifest.json; None if there is none.

    Raises: ValueError if it is not a manifest, or one of another version.
    """
    path = as_path(folder) / "manifest.json"
    if not path.exists():
        return None
    try:
        tree = read_json(path)
        version = tree["version"]
        if version == VERSION:
            members = [_check(Member(**member)) for member in tree["members"]]
            return Manifest(str(tree["scale"]), members, str(tree["split"]))
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(
            f"{path} is not the manifest of a sweep ({type(error).__name__}: {error}). Restore it, "
            "or give another --workdir."
        ) from error
    raise ValueError(
        f"{path} is of version {version}, and this program writes version {VERSION}. Give another "
        "--workdir."
    )


def write_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> Path:
    """Writes folder/manifest.json, whole or not at all, making the folder when missing.

    Returns: its path.
    """
    tree = {
        "version": VERSION,
        "scale": manifest.scale,
        "split": manifest.split,
        "members": [dataclasses.asdict(member) for member in manifest.members],
    }
    path = as_path(folder) / "manifest.json"
    replace_file(path, json.dumps(tree, indent=2, allow_nan=False) + "\n")
    return path


def _check(member: Member) -> Member:
    """Returns the member. Raises: TypeError for what members of two sweeps are joined by."""
    texts = (member.id, member.group, member.row, member.workdir)
    if type(member.seed) is not int or any(type(text) is not str for text in texts):
        raise TypeError(f"a member {member.id!r} of seed {member.seed!r}")
    return member


def _member(row: Row, seed: int, folder: str, protocol: str) -> Member:
    workdir = f"{folder_name(row.group)}/{folder_name(row.label)}/seed={seed}"
    place = os.path.join(folder, workdir)
    return Member(
        id=workdir,
        group=row.group,
        row=row.label,
        seed=seed,
        overrides=dict(row.overrides),
        paper=None if row.paper is None else dict(row.paper),
        config={**row.config, "train": {**row.config["train"], "seed": seed}},
        argv=[
            "jaxformer",
            "train",
            *row.arguments,
            f"--config.train.seed={seed}",
            f"--workdir={place}",
        ],
        evaluate=[
            "jaxformer",
            "evaluate",
            f"--workdir={place}",
            f"--split={SPLIT}",
            *([f"{_PROTOCOL}{protocol}"] if protocol else []),
        ],
        workdir=workdir,
    )


def _describe(manifest: Manifest) -> str:
    return f"of scale {manifest.scale!r}" if manifest.scale else "ad hoc"
