"""The rows of a sweep: those of config files, or the products of values on a command line.

A config file that can be swept has ROWS = {label: {scale: {dotted.key: value}}} and a get_config
that takes "scale/label". It may have PAPER = {label: {figure: value}}, and PLACE, a number by which
files are put in order (0 where there is none).
"""

import contextlib
import csv
import itertools
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.config import Assignment
from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.study.manifest import BASE, SPLIT, Row

_SEED = "train.seed"

Axis = tuple[str, list[str]]
"""A dotted key and the texts of its values."""


def rows_of_files(
    files: Sequence[str], scale: str | None, assignments: Sequence[Assignment]
) -> tuple[str, list[Row]]:
    """Returns the scale, and the rows that config files have for it.

    Args:
      scale: None for the only one that there is.
      assignments: overrides of every row.

    Raises: Mistake if anything is wrong with them.
    """
    groups = Counter(Path(file).stem for file in files)
    for group, count in groups.items():
        if count > 1:
            raise Mistake(
                f"{count} files are named {group}, and rows are told apart by their file's name. "
                "Leave one out, or sweep it into another --workdir."
            )
    names = {file: config_lib.read_names(file) for file in files}
    tables = {file: _table(file, names[file]) for file in files}
    scale = _choose_scale(tables, scale)
    rows = []
    for file in sorted(files, key=lambda file: names[file].get("PLACE", 0)):
        table = {label: scales[scale] for label, scales in tables[file].items() if scale in scales}
        if not table:
            raise Mistake(f"No row of {file} is for scale {scale!r}. Leave the file out.")
        paper = names[file].get("PAPER", {})
        rows += [
            _row(
                f"{file}:{scale}/{label}",
                label,
                overrides=dict(overrides),
                # {} says, too, that the paper has no such row.
                paper=paper.get(label) or None,
                assignments=assignments,
            )
            for label, overrides in table.items()
        ]
    return scale, rows


def rows_of_product(
    spec: str, axes: Sequence[Axis], assignments: Sequence[Assignment]
) -> tuple[list[Row], list[int]]:
    """Returns a row for each combination of values, and the seeds if they are among the keys.

    Args:
      spec: config file, with its argument.
      assignments: overrides of every row.

    Raises: Mistake if anything is wrong with them.
    """
    values: dict[str, list[Any]] = {}
    for key, texts in axes:
        if key in values or key in dict(assignments):
            raise Mistake(f"{key} is set twice. Give it once, with all its values in --sweep.")
        tree = config_lib.load(spec)
        values[key] = [config_lib.override(tree, [(key, text)])[key] for text in texts]
        if len(set(values[key])) < len(texts):
            raise Mistake(f"--sweep {key}={','.join(texts)} has a value twice. Leave one out.")
    kind, seeds = settings.KINDS[_SEED], values.get(_SEED, [])
    for seed in seeds:
        if not kind.accepts(seed):
            raise Mistake(f"{_SEED}={seed} is out of range. Set it to {kind.wanted}.")
    rows = []
    texts_of = {key: texts for key, texts in axes if key != _SEED}
    for texts in itertools.product(*texts_of.values()):
        chosen = list(zip(texts_of, texts, strict=True))
        rows.append(
            _row(
                spec,
                ",".join(f"{key}={text}" for key, text in chosen) or BASE,
                overrides=config_lib.override(config_lib.load(spec), chosen),
                paper=None,
                assignments=[*assignments, *chosen],
            )
        )
    return rows, seeds


def read_axis(text: str) -> Axis:
    """Reads `key=value,value`; a value that has commas itself stands in double quotes.

    Raises: Mistake if it is of another form.
    """
    key, equals, values = text.partition("=")
    if not key or not equals:
        raise Mistake(f"--sweep {text!r} is not of the form KEY=VALUE,VALUE.")
    return key, next(csv.reader([values])) or [""]


def check_models(rows: Sequence[Row], num_devices: int = 0) -> None:
    """Finds what would fail in each member, hours from now: models, schedules, the split.

    Args:
      num_devices: of machines elsewhere, on which more may fail; 0 for this one.

    Raises: Mistake, naming the row.
    """
    # Imported late, so that a mistake in the settings is answered at once.
    from jaxformer.cli import build

    for row in rows:
        with _mistakes_of(row.group, row.label):
            build.make_model(row.config, row.config["data"]["vocab_size"])
            build.make_rate(row.config)
            build.make_length_penalty(row.config)
            if num_devices:
                build.check_elsewhere(row.config, num_devices)
            named = build.named_splits(row.config)
            if named and SPLIT not in named:
                raise Mistake(
                    f"Members are scored on the split {SPLIT!r}, which has no files. Name them: "
                    f"--config.data.{SPLIT}_source=FILE --config.data.{SPLIT}_target=FILE."
                )


def _table(file: str, names: Mapping[str, Any]) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    rows = names.get("ROWS")
    if rows is None:
        raise Mistake(
            f"{file} has no ROWS, so that there is nothing to sweep. Make rows on the command "
            f"line: --config={file} --sweep KEY=VALUE,VALUE."
        )
    scales = list(rows.values()) if isinstance(rows, Mapping) else [None]
    if not all(
        isinstance(each, Mapping) and all(isinstance(row, Mapping) for row in each.values())
        for each in scales
    ):
        raise Mistake(f"ROWS of {file} is not of the form {{label: {{scale: {{key: value}}}}}}.")
    return rows


def _choose_scale(tables: Mapping[str, Mapping[str, Mapping[str, Any]]], scale: str | None) -> str:
    """Returns the scale that is asked for, or the only one."""
    known = list(
        dict.fromkeys(
            name for table in tables.values() for scales in table.values() for name in scales
        )
    )
    if scale is None and len(known) == 1:
        return known[0]
    if scale is None:
        raise Mistake(f"A scale is needed: --scale=NAME, one of {', '.join(known)}.")
    if scale not in known:
        raise Mistake(f"Unknown scale {scale!r}; the files have {', '.join(known)}.")
    return scale


def _row(
    spec: str,
    label: str,
    *,
    overrides: dict[str, Any],
    paper: Mapping[str, float] | None,
    assignments: Sequence[Assignment],
) -> Row:
    """Resolves and checks the settings of a row."""
    tree = config_lib.load(spec)
    group = Path(spec.partition(":")[0]).stem
    common = config_lib.override(tree, assignments)
    if _SEED in {*common, *overrides}:
        raise Mistake(f"{_SEED} is what members of a row differ in. Set --seeds=N instead.")
    for key, value in overrides.items():
        if common.get(key, value) != value:
            raise Mistake(
                f"--config.{key}={common[key]} would undo row {label!r} of {group}, which sets it "
                f"to {value}. Leave it out."
            )
        if _get(tree, key) != value:
            raise Mistake(
                f"get_config of {spec} gives {key}={_get(tree, key)}, where ROWS has {value}. "
                "Let it apply its rows."
            )
    with _mistakes_of(group, label):
        settings.check(tree.to_dict())
        if tree.train.patience:
            raise Mistake(
                f"train.patience={tree.train.patience} may end some rows before others, and a "
                "sweep gives all the same steps. Set --config.train.patience=0."
            )
    config_lib.resolve_paths(tree)
    arguments = [f"--config={spec}", *(f"--config.{key}={text}" for key, text in assignments)]
    return Row(group, label, overrides, paper, tree.to_dict(), arguments)


@contextlib.contextmanager
def _mistakes_of(group: str, label: str) -> Generator[None]:
    """Adds the row's name to a mistake."""
    try:
        with mistakes():
            yield
    except Mistake as mistake:
        raise Mistake(f"Row {label!r} of {group}: {mistake}") from mistake


def _get(tree: ConfigDict, key: str) -> Any:
    """Returns the value of a dotted key, None if there is none."""
    place: Any = tree
    for name in key.split("."):
        place = place[name] if isinstance(place, ConfigDict) and name in place else None
    return place
