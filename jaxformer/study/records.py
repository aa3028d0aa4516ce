"""Reading a sweep's folder: its manifest, and what each member has left there so far."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from jaxformer.files import as_path, in_bucket
from jaxformer.io.record import flatten, read_config, read_metrics, read_object
from jaxformer.study.manifest import VERSION

_STATED = ("model", "optimizer", "train")
# Of these groups, what does not say what is learned.
_RHYTHM = ("log_every", "eval_every", "checkpoint_every", "keep_checkpoints", "not_finite")
# What `evaluate` did before there was a choice.
_PENALTY = "jaxformer.decode.penalty:gnmt_penalty"
_NOT_FINITE = ("nan", "inf", "-inf")
_NAMES: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
}


@dataclasses.dataclass(frozen=True)
class Scores:
    """What `jaxformer evaluate` has found.

    Attributes:
      bleu: sacreBLEU, 0 to 100.
      perplexity: per word piece; not finite for a member that diverged.
      sentences: of the split.
      parameters: of the model; None in records that do not say.
      signature: sacreBLEU's.
      decoding: beam, penalty and number of averaged checkpoints, in words.
      translations: one line a sentence; None where the file has not been kept.
      published: a protocol of published results and BLEU by it; None if there was none.
    """

    bleu: float
    perplexity: float
    sentences: int
    parameters: int | None
    signature: str
    decoding: str
    translations: tuple[str, ...] | None
    published: tuple[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
      id, group, row, seed, config, paper: as the manifest has them; `paper` is {} without figures.
      state: "missing" before it has started, "finished" when its last checkpoint is scored.
      why: what an unfinished or missing member lacks; "" otherwise.
      scores: None until finished.
      curve: (step, perplexity on the validation split), as far as the training has come.
    """

    id: str
    group: str
    row: str
    seed: int
    config: Mapping[str, Any]
    paper: Mapping[str, float]
    state: Literal["missing", "unfinished", "finished"]
    why: str
    scores: Scores | None
    curve: tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep's folder as it was read.

    Attributes:
      name: of the folder.
      scale: "" for an ad-hoc sweep.
      split: that members are scored on.
      members: in the manifest's order.
    """

    name: str
    scale: str
    split: str
    members: tuple[Member, ...]


def read_sweep(
    folder: str | os.PathLike[str],
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config,
) -> Sweep:
    """Reads folder/manifest.json and the records of its members.

    Args:
      complete: gives older settings those that there were not then. A manifest grows, so that its
        members may differ in age.

    Raises: ValueError if a file is damaged or contradicts the manifest, naming it; OSError if one
      cannot be read.
    """
    folder = as_path(folder)
    path = folder / "manifest.json"
    manifest = read_object(path)
    version = _take(manifest, "version", int, str(path))
    if version != VERSION:
        raise ValueError(
            f"{path} is of version {version}, expected {VERSION}. Use the jaxformer that wrote it."
        )
    split = _take(manifest, "split", str, str(path))
    entries = _take(manifest, "members", list, str(path))
    if not entries:
        raise ValueError(f"{path} names no members. Make it again with `jaxformer sweep`.")
    members: list[Member] = []
    seen = set()
    for number, entry in enumerate(entries, start=1):
        where = f"{path}, member {number}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where} is no object. Make it again with `jaxformer sweep`.")
        member = _read_member(folder, split, entry, complete, where)
        place = (member.group, member.row, member.seed)
        if place in seen:
            raise ValueError(
                f"{where}: row {member.row!r} of {member.group} has seed {member.seed} twice. Make "
                "it again with `jaxformer sweep`."
            )
        seen.add(place)
        members.append(member)
    return Sweep(
        name=(folder if in_bucket(folder) else folder.resolve()).name,
        scale=_take(manifest, "scale", str, str(path)),
        split=split,
        members=tuple(members),
    )


def _read_member(
    folder: Path,
    split: str,
    entry: Mapping[str, Any],
    complete: Callable[[dict[str, Any]], dict[str, Any]],
    where: str,
) -> Member:
    workdir = folder / _take(entry, "workdir", str, where)
    config = complete(_take(entry, "config", dict, where))
    num_steps = _take(_take(config, "train", dict, where), "num_steps", int, where)
    _check_settings(workdir, config, where)
    rows = _read_metrics(workdir / "metrics.jsonl")
    curve = [(row["step"], row["valid_perplexity"]) for row in rows if "valid_perplexity" in row]
    state, why, scores = "finished", "", None
    record = workdir / "evaluation" / f"{split}.json"
    if record.exists():
        scored, scores = _read_scores(record, workdir / "translations" / f"{split}.txt")
        if scored != num_steps:
            state, why = "unfinished", f"scored at step {scored:,} of {num_steps:,}"
    elif rows and "diverged_at" in rows[-1]:
        state, why = "unfinished", f"diverged at step {rows[-1]['diverged_at']:,}"
    elif rows and rows[-1]["step"] >= num_steps:
        state, why = "unfinished", "trained, not scored"
    elif rows:
        state, why = "unfinished", f"at step {rows[-1]['step']:,} of {num_steps:,}"
    elif (workdir / "config.json").exists():
        state, why = "unfinished", "started, without a line of metrics yet"
    else:
        state, why = "missing", "not started"
    return Member(
        id=_take(entry, "id", str, where),
        group=_take(entry, "group", str, where),
        row=_take(entry, "row", str, where),
        seed=_take(entry, "seed", int, where),
        config=config,
        paper=_read_paper(entry, where),
        state=state,
        why=why,
        scores=scores if state == "finished" else None,
        curve=tuple(curve),
    )


def _check_settings(workdir: Path, config: Mapping[str, Any], where: str) -> None:
    """Raises ValueError if the workdir holds a run with other settings than the manifest says."""
    if not (workdir / "config.json").exists():
        return
    there, here = flatten(read_config(workdir)), flatten(config)
    # What only one of them has is a setting that the other is older than.
    for key in sorted(there.keys() & here.keys()):
        group, _, name = key.partition(".")
        if group in _STATED and name not in _RHYTHM and there[key] != here[key]:
            raise ValueError(
                f"{workdir / 'config.json'} has {key}={there[key]!r}, where {where} has "
                f"{here[key]!r}. Move that run away, or make the manifest again."
            )


def _read_paper(entry: Mapping[str, Any], where: str) -> dict[str, float]:
    if entry.get("paper") is None:
        return {}
    paper = _take(entry, "paper", dict, where)
    return {
        name: _take(paper, name, float, f"{where}, `paper`")
        for name in ("perplexity", "bleu", "parameters")
        if paper.get(name) is not None
    }


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    rows = read_metrics(path) if path.exists() else []
    for row in rows:
        if "valid_perplexity" in row:
            _take(row, "valid_perplexity", float, f"{path}, step {row['step']}")
    return rows


def _read_scores(record: Path, text: Path) -> tuple[int, Scores]:
    """Returns the step of the newest checkpoint that was scored, and the scores."""
    where = str(record)
    found = read_object(record)
    checkpoints = _take(found, "checkpoints", list, where)
    if not checkpoints or any(type(step) is not int for step in checkpoints):
        raise ValueError(
            f"{where}: `checkpoints` is {checkpoints}, expected steps. Evaluate the run again."
        )
    beams = _take(found, "num_beams", int, where)
    alpha = _take(found, "alpha", float, where)
    # Records that do not say are older than the choice.
    penalty = _take({"length_penalty": _PENALTY, **found}, "length_penalty", str, where)
    average = len(checkpoints)
    sentences = _take(found, "sentences", int, where)
    published = None
    if "published_protocol" in found:
        by = _take(found, "published_protocol", dict, where)
        published = (_take(by, "protocol", str, where), _take(by, "bleu", float, where))
    return checkpoints[0], Scores(
        bleu=_take(found, "bleu", float, where),
        perplexity=_take(found, "perplexity", float, where),
        sentences=sentences,
        parameters=_take(found, "parameters", int, where) if "parameters" in found else None,
        signature=_take(found, "bleu_signature", str, where),
        decoding=(
            f"beam {beams}, length penalty {alpha:g} ({penalty.rpartition(':')[2]}), "
            f"{f'average of {average} checkpoints' if average > 1 else 'one checkpoint'}"
        ),
        translations=_read_lines(text, sentences),
        published=published,
    )


def _read_lines(path: Path, sentences: int) -> tuple[str, ...] | None:
    if not path.exists():
        return None
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 ({error.reason}). Evaluate the run again."
        ) from error
    lines = tuple(text.removesuffix("\n").split("\n"))
    if len(lines) != sentences:
        raise ValueError(
            f"{path} has {len(lines)} lines, where the scores beside it are of {sentences} "
            "sentences. Evaluate the run again."
        )
    return lines


def _take(record: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    """Returns a field of that kind; a number may be text where it is not finite.

    Raises: ValueError if it is missing or of another kind.
    """
    value = record.get(name)
    if kind is float and value in _NOT_FINITE:
        return float(value)
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    got = f"is {value!r}" if name in record else "is missing"
    raise ValueError(f"{where}: `{name}` {got}, expected {_NAMES[kind]}. Restore the file.")
