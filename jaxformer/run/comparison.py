"""Whether all processes of a run are about to do the same."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxformer.data.tokenizer import Tokenizer
from jaxformer.files import is_folder
from jaxformer.io import environment
from jaxformer.io.hosts import Channel
from jaxformer.io.lease import holder
from jaxformer.io.record import flatten, to_json
from jaxformer.run.preparation import TrainingData, fingerprint
from jaxformer.run.restoring import checkpoints_path

_MOST = 3
"""Differences that are told of a process."""


def compare_programs(workdir: Path, config: Mapping[str, Any], channel: Channel) -> None:
    """Compares the code, the settings, and whether all have the same workdir before them.

    Process 0 holds the workdir when it comes to this call.

    Raises: ValueError as `compare`.
    """
    if channel.num_processes == 1:
        return
    channel.wait_for_all()
    folder = checkpoints_path(workdir)
    names = [path.name for path in folder.iterdir()] if is_folder(folder) else []
    facts = {
        "code": {"git": environment.package_source(), **environment.versions()},
        "config": config,
        "workdir": {
            "holder": holder(workdir),
            "checkpoints": sorted(int(name) for name in names if name.isdigit()),
        },
    }
    compare(facts, channel)


def compare_data(tokenizer: Tokenizer, text: TrainingData, channel: Channel) -> None:
    """Compares what all have read.

    Raises: ValueError as `compare`.
    """
    if channel.num_processes == 1:
        return
    facts = {
        "vocabulary": tokenizer.fingerprint,
        "training text": text.fingerprint,
        "batches": {
            "an epoch": text.plan.batches_per_epoch,
            "shapes": [list(shape) for shape in text.plan.shapes],
        },
        "validation text": None if text.valid is None else fingerprint(text.valid),
    }
    compare(facts, channel)


def compare(facts: Mapping[str, Any], channel: Channel) -> None:
    """Compares what each process knows with what process 0 does.

    All of them have to call this.

    Args:
      facts: names in words -> values for JSON; nested ones are named by dotted keys.

    Raises: ValueError, the same in all of them, that names the first process with other facts, its
      host, and what differs.
    """
    if channel.num_processes == 1:
        return
    everybody = [flatten(known) for known in channel.gather(to_json(facts))]
    faults = [
        _describe(number, differences, channel.hosts)
        for number, known in enumerate(everybody)
        if (differences := _differences(known, everybody[0]))
    ]
    fault = channel.from_first(faults[0] if faults else None)
    if fault is not None:
        raise ValueError(fault)


def _differences(known: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {_show(known, name)} there and {_show(first, name)} on process 0"
        for name in sorted(known.keys() | first.keys())
        if _show(known, name) != _show(first, name)
    ]


def _describe(number: int, differences: Sequence[str], hosts: Sequence[str]) -> str:
    more = len(differences) - _MOST
    told = "; ".join(differences[:_MOST]) + (f"; and {more} more" if more > 0 else "")
    return (
        f"Process {number} on {hosts[number]} is not about to do what process 0 on {hosts[0]} is: "
        f"{told}. Give all of them the same code, settings, text and workdir."
    )


def _show(facts: Mapping[str, Any], name: str) -> str:
    return json.dumps(facts[name]) if name in facts else "absent"
