r"""Transformer-Tiny on Multi30k beside its published score, and recipes of ours beside it.

    python -m experiments.multi30k_tiny tiny=runs/tiny/seed0,runs/tiny/seed1 [recipe=...,...] \
        [--split=valid] [--output=tiny.md]

An argument names a recipe and the workdirs of its trainings, which differ in their seeds alone and
were scored with `jaxformer evaluate --split=test --protocol=multi_bleu_lc`. A mean stands with two
standard errors over seeds. The published score is matched if it lies between them.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.shared.pages import table
from jaxformer.cli import settings
from jaxformer.cli.mistakes import Mistake, answered
from jaxformer.files import replace_file
from jaxformer.io.record import flatten, read_config, read_object

PROTOCOL = "multi_bleu_lc"
# Wu et al. (2021): text only, English to German, the 2016 Flickr test set, one training.
PUBLISHED = 41.02
SENTENCES = {"test": 1000, "valid": 1014}
# What a score depends on beside the training, as it stands in the record of it.
DECODING = ("num_beams", "alpha", "length_penalty", "extra_length", "checkpoints")


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="multi30k_tiny", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", metavar="RECIPE=WORKDIR,WORKDIR")
    parser.add_argument("--split", choices=SENTENCES, default="test", help="default test")
    parser.add_argument("--output", type=Path, help="file for the table (it is printed as well)")
    chosen = parser.parse_args()

    def work() -> None:
        runs = dict(map(read_argument, chosen.runs))
        if len(runs) < len(chosen.runs):
            raise Mistake("A recipe is named twice. Give all its workdirs in one argument.")
        text = recipes_table(runs, chosen.split)
        if chosen.output:
            replace_file(chosen.output, text)
        print(text, end="")

    return answered("multi30k_tiny", work)


def read_argument(argument: str) -> tuple[str, list[Path]]:
    """Reads RECIPE=WORKDIR,WORKDIR. Raises: Mistake if it is not of this form."""
    name, _, workdirs = argument.partition("=")
    paths = [Path(workdir) for workdir in workdirs.split(",") if workdir]
    if not name or not paths:
        raise Mistake(f"{argument!r} is not RECIPE=WORKDIR,WORKDIR: name a recipe and its runs.")
    return name, paths


def recipes_table(runs: Mapping[str, Sequence[Path]], split: str) -> str:
    """Returns the table in Markdown.

    Raises: Mistake if a run has not been scored on the split by the protocol, or two runs of a
      recipe are no two seeds of it, or were scored by different searches.
    """
    header = ["recipe", "parameters", "seeds", "BLEU, their protocol", "each", "sacreBLEU"]
    if split == "test":
        header += [f"the published {PUBLISHED}"]
    lines, signatures, searches = [], {}, []
    for name, workdirs in runs.items():
        check_seeds(name, workdirs)
        records = [measured(workdir, split) for workdir in workdirs]
        searches.append(f"{name} {check_searches(workdirs, records)}")
        bleus = [record["published_protocol"]["bleu"] for record in records]
        signatures |= {record["bleu_signature"]: None for record in records}
        cells = [
            name,
            f"{records[0]['parameters']:,}",
            str(len(records)),
            show(bleus),
            ", ".join(f"{bleu:.2f}" for bleu in bleus),
            show([record["bleu"] for record in records]),
        ]
        lines.append([*cells, verdict(bleus)] if split == "test" else cells)
    return (
        f"{table(header, lines)}\nMulti30k's {split} split; sacreBLEU: {' and '.join(signatures)}. "
        f"± is two standard errors over seeds. Searches: {'; '.join(searches)}.\n"
    )


def check_seeds(name: str, workdirs: Sequence[Path]) -> None:
    """Raises: Mistake if trainings differ in anything but their seeds, or two have one seed."""
    configs, seeds = [], []
    for workdir in workdirs:
        config = flatten(settings.complete(read_config(workdir)))
        if "train.seed" not in config:
            raise Mistake(f"{workdir / 'config.json'} names no train.seed. Give a training's.")
        seeds.append(config.pop("train.seed"))
        # How a run was decoded stands with its scores: it may be said when it is evaluated.
        configs.append({key: config[key] for key in config if not key.startswith("decode.")})
    if len(set(seeds)) < len(seeds):
        raise Mistake(f"Runs of {name} have the seeds {seeds}. Give each training once.")
    for workdir, config in zip(workdirs, configs, strict=True):
        if config != configs[0]:
            raise Mistake(
                f"{workdir} differs from {workdirs[0]} in more than its seed. Give runs of one "
                f"recipe to {name}."
            )


def check_searches(workdirs: Sequence[Path], records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the search in words: that of the runs' scores, over how many checkpoints.

    Raises: Mistake if the runs were not all scored by it.
    """
    searches = [
        {name: record[name] for name in DECODING} | {"checkpoints": len(record["checkpoints"])}
        for record in records
    ]
    for workdir, search in zip(workdirs, searches, strict=True):
        for name, value in search.items():
            if value != searches[0][name]:
                raise Mistake(
                    f"{workdir} was scored with {name} {value}, and {workdirs[0]} with "
                    f"{searches[0][name]}. Evaluate both alike."
                )
    return "beam {num_beams}, alpha {alpha:g}, average of {checkpoints}".format(**searches[0])


def measured(workdir: Path, split: str) -> dict[str, Any]:
    """Returns the record of `jaxformer evaluate`. Raises: Mistake if there is none that fits."""
    path = workdir / "evaluation" / f"{split}.json"
    command = f"`jaxformer evaluate --workdir={workdir} --split={split} --protocol={PROTOCOL}`"
    if not path.is_file():
        raise Mistake(f"{path} is missing. Run {command}.")
    record = read_object(path)
    if record.get("published_protocol", {}).get("protocol") != PROTOCOL:
        raise Mistake(f"{path} has no BLEU by the protocol {PROTOCOL}. Run {command}.")
    for name in (*DECODING, "sentences"):
        if name not in record:
            raise Mistake(f"{path} does not say {name}. Run {command}.")
    if record["sentences"] != SENTENCES[split]:
        raise Mistake(
            f"{path} is of {record['sentences']:,} sentences, and Multi30k's {split} split has "
            f"{SENTENCES[split]:,}. Score that one."
        )
    return record


def show(values: Sequence[float]) -> str:
    """Returns "41.10 ± 0.30", the mean and two standard errors; the mean alone of one value."""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {_two_errors(values):.2f}"


def verdict(values: Sequence[float]) -> str:
    """Returns whether the published score lies within two standard errors of the mean."""
    if len(values) == 1:
        return "one seed: not told"
    distance = statistics.fmean(values) - PUBLISHED
    if abs(distance) <= _two_errors(values):
        return "matched"
    return "beaten" if distance > 0 else "missed"


def _two_errors(values: Sequence[float]) -> float:
    return 2 * statistics.stdev(values) / math.sqrt(len(values))


if __name__ == "__main__":
    sys.exit(main())
