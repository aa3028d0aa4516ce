"""Measures each head of a trained model: sacreBLEU when it is silenced, and its entropy.

    python experiments/attention_maps.py --workdir=runs/x --split=valid --limit=200

One head after another gives zero at every position while all others work on (the translation of
the split is made once for each), and the change of sacreBLEU is what the model loses. The entropy
of a head's weights, a mean over the positions of the split's references, is 0 where it always looks
at one place. A table (heads.md), the record (heads.json) and two pictures go to the output folder.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.cli import build
from jaxformer.cli.mistakes import answered
from jaxformer.cli.options import whole_number
from jaxformer.cli.trained import read_settings
from jaxformer.cli.translator import open_trained, open_translate
from jaxformer.data.encoded import encode_pairs
from jaxformer.data.pipeline import check_evaluable, eval_batches
from jaxformer.files import replace_file
from jaxformer.io.plot_heads import plot_heads
from jaxformer.run.heads import SilencedHeads, by_kind, mean_entropies, score_silenced


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--split", default="valid", help="train, valid or test")
    parser.add_argument("--limit", type=whole_number, help="so many sentences of it, evenly spaced")
    parser.add_argument("--num_beams", type=whole_number, help="1 for greedy search")
    parser.add_argument("--output", help="folder for the results (default: WORKDIR/attention)")
    arguments = parser.parse_args()
    return answered("attention_maps", lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> None:
    """Measures all heads and writes what was found.

    Raises: ValueError or OSError if the run or the split is not there, or not readable.
    """
    beams = arguments.num_beams
    config = read_settings(arguments.workdir, [("decode.num_beams", str(beams))] if beams else [])
    folder = Path(arguments.output or Path(arguments.workdir) / "attention")
    folder.mkdir(parents=True, exist_ok=True)
    pairs = list(build.make_corpus(config, [arguments.split]).pairs(arguments.split))
    if arguments.limit and arguments.limit < len(pairs):
        chosen = np.linspace(0, len(pairs) - 1, arguments.limit).round().astype(int)
        pairs = [pairs[number] for number in chosen.tolist()]
    trained = open_trained(config, arguments.workdir)
    model, params, tokenizer = trained.model, trained.params, trained.tokenizer
    encoded = encode_pairs(pairs, tokenizer)
    check_evaluable(encoded, arguments.split, config["data"]["max_length"])
    batches = eval_batches(encoded, config["data"]["target_tokens"])
    entropies = mean_entropies(model, params, batches)
    silenced = score_silenced(model, params, open_translate(config, trained), pairs, _report)
    changes = by_kind(
        model,
        {head: found.bleu - silenced.whole.bleu for head, found in silenced.without.items()},
    )
    details = {
        "split": arguments.split,
        "sentences": len(pairs),
        "checkpoints": trained.steps,
        "num_beams": config["decode"]["num_beams"],
        "bleu": silenced.whole.bleu,
        "bleu_signature": silenced.whole.bleu_signature,
    }
    record = {**details, "heads": _rows(silenced, entropies)}
    replace_file(folder / "heads.json", json.dumps(record, indent=2) + "\n")
    table = _table(record)
    replace_file(folder / "heads.md", table)
    label = "change of sacreBLEU"
    plot_heads(changes, folder / "heads_bleu.png", label, is_change=True, title="Without this head")
    plot_heads(entropies, folder / "heads_entropy.png", "nats", title="Entropy of the weights")
    print(table)
    print(f"Written: {folder}/heads.md, heads.json, heads_bleu.png, heads_entropy.png")


def _rows(silenced: SilencedHeads, entropies: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns what is known of every head; layers and heads count from 1."""
    return [
        {
            "attention": head.kind,
            "layer": head.layer + 1,
            "head": head.number + 1,
            "bleu": found.bleu,
            "change": found.bleu - silenced.whole.bleu,
            "entropy": float(entropies[head.kind][head.layer, head.number]),
        }
        for head, found in silenced.without.items()
    ]


def _table(record: Mapping[str, Any]) -> str:
    """Returns the record as Markdown, the head that is missed most first."""
    rows = sorted(record["heads"], key=lambda row: row["change"])
    steps = ", ".join(f"{step:,}" for step in record["checkpoints"])
    return "\n".join(
        [
            f"sacreBLEU of all heads together: {record['bleu']:.2f} on {record['sentences']:,} "
            f"sentences of {record['split']} ({record['bleu_signature']}), beam "
            f"{record['num_beams']}, checkpoints {steps}. Entropy in nats.",
            "",
            "| attention | layer | head | sacreBLEU without it | change | entropy |",
            "| --- | --- | --- | --- | --- | --- |",
            *(
                f"| {row['attention']} | {row['layer']} | {row['head']} | {row['bleu']:.2f} | "
                f"{row['change']:+.2f} | {row['entropy']:.2f} |"
                for row in rows
            ),
            "",
        ]
    )


def _report(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} decodings", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
