"""The records in a workdir: config.json, run.json and metrics.jsonl.

All are strict JSON and whole at any moment: the first two are replaced in one step, the third grows
by whole lines. In a bucket the third is a folder of segments (see lines.py).
"""

from __future__ import annotations

import datetime
import fnmatch
import json
import math
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeGuard

import jax
import numpy as np

from jaxformer.files import as_path, in_bucket, read_json, replace_file
from jaxformer.io import environment
from jaxformer.io.bucket import BucketObjects
from jaxformer.io.lines import FileLines, Lines, SegmentLines, parts

_ABSENT = object()
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any) -> Any:
    """The same value in what strict JSON can hold.

    Arrays and scalars of numpy and jax become numbers and lists, a float32 the shortest decimal
    that reads back as the same float32; tuples become lists, paths text, and numbers that are not
    finite "nan", "inf" and "-inf", which `float` reads.

    Raises: ValueError for anything else, naming its type.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        return [to_json(item) for item in np.asarray(value)]
    if isinstance(value, jax.Array | np.ndarray):
        return to_json(np.asarray(value)[()])
    if isinstance(value, np.generic):
        is_narrow = jax.numpy.issubdtype(value.dtype, np.floating) and value.dtype.itemsize < 8
        return to_json(float(str(value)) if is_narrow else value.item())
    raise ValueError(
        f"{value!r} is a {type(value).__name__}, which JSON cannot hold. "
        f"Use numbers, text, lists and mappings."
    )


def check_config(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    may_change: Collection[str] = (),
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda before: before,
) -> dict[str, Any] | None:
    """Compares the resolved settings with those of the run that the workdir holds, if any.

    Args:
      config: nested mappings.
      may_change: patterns (`decode.*`) of dotted keys that may differ.
      complete: gives older settings those that there were not then.

    Returns: the settings of that run as the file has them, None if there is no config.json.
    Raises: ValueError if any other key differs, and as `read_config` and `to_json`.
    """
    workdir = as_path(workdir)
    if not (workdir / "config.json").exists():
        return None
    before = read_config(workdir)
    there, here = flatten(complete(before)), flatten(to_json(config))
    changes = [
        f"{key} is {_show(there, key)} there and {_show(here, key)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key, _ABSENT) != here.get(key, _ABSENT)
        and not any(fnmatch.fnmatchcase(key, pattern) for pattern in may_change)
    ]
    if changes:
        raise ValueError(
            f"{workdir} holds a run with other settings: {'; '.join(changes)}. "
            f"Give another --workdir, or the same settings."
        )
    return before


def write_config(
    workdir: str | os.PathLike[str],
    config: Mapping[str, Any],
    may_change: Collection[str] = (),
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda before: before,
) -> None:
    """Writes the resolved settings to workdir/config.json, making the workdir when missing.

    Args:
      config, may_change, complete: as for `check_config`; the file takes the values of what may
        change, and of what is new.

    Raises: as `check_config`; nothing is written then.
    """
    config = to_json(config)
    if check_config(workdir, config, may_change, complete) == config:
        return
    workdir = as_path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    replace_file(workdir / "config.json", text)


def read_config(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of the run in `workdir`, as nested dicts.

    Raises: ValueError if it holds no config.json, or one that is not a JSON object.
    """
    path = as_path(workdir) / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{workdir} is not the workdir of a run: it holds no config.json. "
            f"Give the --workdir that `jaxformer train` was given."
        )
    return read_object(path)


def write_run(
    workdir: str | os.PathLike[str],
    *,
    argv: Sequence[str],
    overrides: Mapping[str, Any],
    seeds: Mapping[str, int],
    allocator: str,
    mesh: Mapping[str, int],
) -> None:
    """Appends a start to workdir/run.json: what was run, by which code, on what, and when.

    The file is {"starts": [...]}, one entry for every time that the run was started or resumed.
    Initialises jax's devices, so it comes after `jax.distributed.initialize`.

    Args:
      argv: the command line.
      overrides: dotted key -> value, as set on the command line.
      seeds: what for -> seed.
      allocator: of memory, and how it was set, which speed on CPUs depends on.
      mesh: axis -> devices along it.

    Raises: ValueError if there is a run.json that is not one.
    """
    workdir = as_path(workdir)
    path = workdir / "run.json"
    run: dict[str, Any] = read_object(path) if path.exists() else {"starts": []}
    if not isinstance(run.get("starts"), list):
        raise ValueError(f"{path} has no list `starts`: it is not a run's record. Move it away.")
    start = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": list(argv),
        "overrides": overrides,
        "seeds": seeds,
        # Two, for a study may live in a repository of its own.
        "git": {
            "package": environment.package_source(),
            "folder": environment.repository(os.getcwd()),
        },
        "versions": environment.versions(),
        "devices": environment.devices(),
        "mesh": mesh,
        "allocator": allocator,
    }
    run["starts"].append(to_json(start))
    workdir.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(run, indent=2, allow_nan=False) + "\n")


class Metrics:
    """Appends rows to a metrics.jsonl, each as one line that is on file when `write` returns.

    Opening it cuts the file back to the state that the run goes on from: lines of steps after
    `resume_step` (0 for a new run) are dropped, and so is a last line that a kill has torn.

    In a bucket a line is there with the first one ten seconds later, or when `sync` returns.

    Raises: ValueError if a line other than the last is not a row: that is damage, not a kill.
    """

    def __init__(self, path: str | os.PathLike[str], resume_step: int) -> None:
        path = as_path(path)

        def keep(part: pathlib.Path, before: bytes, is_last: bool) -> bytes:
            rows = _rows(part, before, is_last)
            kept = [line for line, row in rows if row["step"] <= resume_step]
            return b"".join(line + b"\n" for line in kept)

        self._lines: Lines = (
            SegmentLines(path, keep, BucketObjects(path))
            if in_bucket(path)
            else FileLines(path, keep)
        )

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends `row`, converted by `to_json`. Waits for the values that are still computed.

        Raises: ValueError if it has no integer `step`; OSError if it cannot be written, and then
          nothing of it stays.
        """
        converted = to_json(row)
        if not _is_row(converted):
            raise ValueError(
                f"A row of metrics needs an integer `step`, got {converted.get('step')!r}. Add it."
            )
        self._lines.append(json.dumps(converted, allow_nan=False).encode() + b"\n")

    def sync(self) -> None:
        """Waits until all lines have reached the disk. Raises: OSError if they cannot."""
        self._lines.sync()

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, in order; "nan", "inf" and "-inf" are floats again.

    A torn last line is left out: the run may be writing it.

    Raises: ValueError if another line is not a row.
    """
    return [
        {
            key: _NOT_FINITE.get(value, value) if isinstance(value, str) else value
            for key, value in row.items()
        }
        for part, text, is_last in parts(as_path(path))
        for _, row in _rows(part, text, is_last)
    ]


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises: ValueError if the file holds anything else; OSError if it cannot be read.
    """
    try:
        value = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error} Restore it, or move it away.") from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{path} holds a JSON {type(value).__name__}, not an object. Restore it, or move it "
            "away."
        )
    return value


def _rows(path: pathlib.Path, text: bytes, is_last: bool) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yields (line, row) of every line but a broken last one of the last part."""
    lines = text.rstrip(b"\n").split(b"\n") if text.strip() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if _is_row(row):
            yield line, row
        elif number < len(lines) or not is_last:
            raise ValueError(
                f"Line {number} of {path} is not a row of metrics. Repair it, or move the file "
                "away."
            )


def _is_row(row: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(row, dict) and type(row.get("step")) is int


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns dotted key -> value of nested mappings; an empty one is a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _show(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key]) if key in flat else "absent"
