"""Shows what a training has learned: ten translations, the loss curve, one sentence's attention.

    python experiments/quickstart.py --workdir=runs/quickstart

It reads the workdir of any run that `jaxformer evaluate` has scored, prints translations beside
their sources and references, and writes loss.png and attention.png into the workdir.
"""

import argparse
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxformer.cli import build
from jaxformer.cli.mistakes import Mistake, answered
from jaxformer.cli.trained import read_settings
from jaxformer.cli.translator import open_trained
from jaxformer.io.plot import plot_attention, plot_loss
from jaxformer.io.record import read_metrics
from jaxformer.io.score import score
from jaxformer.model import attention_weights

NUM_EXAMPLES = 10
# Of the sentence whose attention is drawn: more labels could not be read.
MOST_PIECES = 24


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--split", default="test", help="the split that was evaluated")
    arguments = parser.parse_args()
    return answered("quickstart", lambda: show(Path(arguments.workdir), arguments.split))


def show(workdir: Path, split: str) -> None:
    """Prints the translations and writes the two pictures.

    Raises: ValueError or OSError if the run is not there, not scored, or not readable.
    """
    config = read_settings(str(workdir), [])
    pairs = list(build.make_corpus(config, [split]).pairs(split))
    path = workdir / "translations" / f"{split}.txt"
    if not path.is_file():
        raise Mistake(
            f"{path} is missing. Run `jaxformer evaluate --workdir={workdir} --split={split}`."
        )
    translations = path.read_text(encoding="utf-8").split("\n")[:-1]
    if len(translations) != len(pairs):
        raise Mistake(
            f"{path} holds {len(translations)} lines for {len(pairs)} sentences. Run `jaxformer "
            f"evaluate --workdir={workdir} --split={split}` again."
        )
    # Evenly spaced, so that they are of different chapters, and the same every time.
    for number in np.linspace(0, len(pairs) - 1, NUM_EXAMPLES).round().astype(int).tolist():
        source, reference = pairs[number]
        print(f"source       {source}")
        print(f"translation  {translations[number]}")
        print(f"reference    {reference}\n")

    copied = score([source for source, _ in pairs], [reference for _, reference in pairs])
    print(f"For comparison, the untranslated source scores {copied.bleu:.1f} sacreBLEU.")
    plot_loss(read_metrics(workdir / "metrics.jsonl"), workdir / "loss.png")
    draw_attention(
        workdir, config, [source for source, _ in pairs], translations, workdir / "attention.png"
    )
    print(f"Pictures: {workdir / 'loss.png'}, {workdir / 'attention.png'}")


def draw_attention(
    workdir: Path, config: build.Config, sources: list[str], translations: list[str], path: Path
) -> None:
    """Draws how the last decoder layer looks at the source while it writes one translation."""
    trained = open_trained(config, workdir)
    tokenizer = trained.tokenizer
    lengths = [
        max(len(source), len(target))
        for source, target in zip(
            tokenizer.encode(sources), tokenizer.encode(translations, "target"), strict=True
        )
    ]
    # The longest one that can be read, or the shortest of all.
    fitting = [length if length <= MOST_PIECES else -length for length in lengths]
    number = int(np.argmax(fitting))
    source_1S, target_1T = (
        tokenizer.encode([lines[number]], side)[0][None]
        for side, lines in (("source", sources), ("target", translations))
    )
    weights = attention_weights(
        trained.model, trained.params, jnp.asarray(source_1S), jnp.asarray(target_1T)
    )
    plot_attention(
        weights["cross"][-1][0],
        tokenizer.pieces(source_1S[0]),
        tokenizer.pieces(target_1T[0]),
        path,
        title="The last decoder layer's attention over the source, a panel a head",
    )


if __name__ == "__main__":
    sys.exit(main())
