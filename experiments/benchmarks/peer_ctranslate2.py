"""One measured process of CTranslate2's: `python -m experiments.benchmarks.peer_ctranslate2 ...`.

Runs in the peers' environment, decodes with the model that `ours export` wrote, and prints a line
of JSON.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import ctranslate2

from experiments.benchmarks.sizes import DECODED_BATCHES, SIZES, pieces, read_batches
from experiments.shared.timing import fastest, peak_memory, report


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of the exported model")
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--batches", required=True, help="file that sizes.write_batches wrote")
    parser.add_argument("--workers", type=int, default=1, help="they share the cores")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--steps", type=int, default=32, help="tokens of an output, EOS included")
    parser.add_argument("--seconds", type=float, default=10.0, help="about so long is timed")
    parser.add_argument("--started", type=float, help="not needed here")
    parser.add_argument("--output", type=Path, help="file of outputs")
    report(decode(parser.parse_args()))


def decode(chosen: argparse.Namespace) -> dict[str, Any]:
    """Times beam search."""
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // chosen.workers)
    translator = ctranslate2.Translator(
        chosen.model,
        compute_type="float32",
        inter_threads=chosen.workers,
        intra_threads=threads,
    )
    names = pieces(SIZES[chosen.size])
    # The model itself adds EOS.
    sources = [
        [names[token] for token in row[:-1]]
        for source_BS, _ in read_batches(chosen.batches)[:DECODED_BATCHES]
        for row in source_BS.tolist()
    ]
    found: list[Any] = []

    def run() -> None:
        found[:] = translator.translate_batch(
            sources,
            max_batch_size=64,
            beam_size=chosen.beams,
            length_penalty=0.0,
            min_decoding_length=0,
            max_decoding_length=chosen.steps,
        )

    seconds = fastest(run, chosen.seconds)
    if chosen.output:
        rows = [each.hypotheses[0] for each in found]
        chosen.output.write_text(json.dumps(rows), encoding="utf-8")
    return {
        "sentences_per_second": len(sources) / seconds,
        "sentences": len(sources),
        "workers": chosen.workers,
        "threads": threads,
        "peak_bytes": peak_memory(),
        "version": ctranslate2.__version__,
    }


if __name__ == "__main__":
    main()
