"""Table 2: BLEU on newstest2014, and what the training cost, measured beside the paper.

    python experiments/table2_translation.py [en-de/base=runs/x ...] [--output=table2.md]

An argument names a row and the workdir that `jaxformer evaluate --split=test --protocol=paper` has
scored; a row without one is shown as not run. Operations are counted in two ways: the paper's,
hours times devices times what such a device sustains, and ours, those of the matrix products of all
steps, which say what the model needs and not how long a machine was held.
"""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any, NamedTuple

from jaxformer.cli import build
from jaxformer.cli.mistakes import Mistake, answered
from jaxformer.io.record import read_config, read_object
from jaxformer.model import forward_flops

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# Section 5.2 and the note of 6.1: eight P100, each sustaining 9.5 TFLOPS.
DEVICES, SUSTAINED = 8, 9.5e12
# Tokens of an average sentence of WMT14, for the part of the count that grows with its square.
SENTENCE = 27
SIZES = (
    *("vocab_size", "d_model", "d_ff", "num_heads", "d_k", "d_v"),
    *("num_encoder_layers", "num_decoder_layers"),
)


class Row(NamedTuple):
    """A row of the table as the paper has it."""

    config: str
    bleu: float
    hours: float


ROWS = {
    "en-de/base": Row("wmt14_en_de.py:base", 27.3, 12.0),
    "en-de/big": Row("wmt14_en_de.py:big", 28.4, 84.0),
    "en-fr/base": Row("wmt14_en_fr.py:base", 38.1, 12.0),
    "en-fr/big": Row("wmt14_en_fr.py:big", 41.8, 84.0),
}


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="ROW=WORKDIR", help=", ".join(ROWS))
    parser.add_argument("--output", help="file for the table (it is printed in any case)")
    arguments = parser.parse_args()

    def work() -> None:
        text = table(dict(map(read_argument, arguments.runs)))
        if arguments.output:
            Path(arguments.output).write_text(text, encoding="utf-8")
        print(text, end="")

    return answered("table2_translation", work)


def read_argument(argument: str) -> tuple[str, Path]:
    """Reads ROW=WORKDIR. Raises: Mistake if there is no such row."""
    name, equals, workdir = argument.partition("=")
    if name not in ROWS or not equals:
        raise Mistake(f"{argument!r} is not ROW=WORKDIR; the rows are {', '.join(ROWS)}.")
    return name, Path(workdir)


def table(runs: dict[str, Path]) -> str:
    """Returns the table in Markdown. Raises: Mistake if a run has not been scored."""
    lines = [
        "| row | BLEU (paper) | BLEU (ours) | sacreBLEU | FLOPs, paper's count (paper) | FLOPs, "
        "matrix products |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        bleu, sacrebleu = measured(runs[name]) if name in runs else ("not run", "not run")
        config = read_config(runs[name]) if name in runs else load(row.config)
        held = row.hours * 3600 * DEVICES * SUSTAINED
        lines.append(
            f"| {name} | {row.bleu} | {bleu} | {sacrebleu} | {held:.1e} | "
            f"{training_flops(config):.1e} |"
        )
    return "\n".join(lines) + "\n"


def load(spec: str) -> dict[str, Any]:
    """Returns the settings of a config file of this project."""
    name, _, size = spec.partition(":")
    return runpy.run_path(str(CONFIGS / name))["get_config"](size).to_dict()


def training_flops(config: dict[str, Any]) -> float:
    """Returns the operations of all matrix products of a training's steps."""
    data = config["data"]
    model = build.make_model(config, data["vocab_size"])
    sizes = {name: getattr(model, name) for name in SIZES}
    pair = forward_flops(**sizes, source_length=SENTENCE, target_length=SENTENCE)
    # Backward there are two products for each one forward.
    return 3.0 * pair * data["target_tokens"] / SENTENCE * config["train"]["num_steps"]


def measured(workdir: Path) -> tuple[str, str]:
    """Returns BLEU by the paper's protocol and sacreBLEU, as `jaxformer evaluate` recorded them.

    Raises: Mistake if it did not.
    """
    path = workdir / "evaluation" / "test.json"
    command = f"`jaxformer evaluate --workdir={workdir} --split=test --protocol=paper`"
    if not path.is_file():
        raise Mistake(f"{path} is missing. Run {command}.")
    record = read_object(path)
    published = record.get("published_protocol", {})
    if published.get("protocol") != "paper":
        raise Mistake(f"{path} has no BLEU by the paper's protocol. Run {command}.")
    if record["sentences"] != 3003:
        raise Mistake(
            f"{path} is of {record['sentences']:,} sentences, and newstest2014 has 3,003. Score "
            "that one."
        )
    return f"{published['bleu']:.1f}", f"{record['bleu']:.1f} ({record['bleu_signature']})"


if __name__ == "__main__":
    sys.exit(main())
