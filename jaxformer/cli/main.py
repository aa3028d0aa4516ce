"""`jaxformer COMMAND ...`: finds the command, imports what it needs, and answers mistakes.

Exit codes: 0 done, 1 some members of a sweep have failed (a line for each on stderr) or a preflight
found that something does not fit, 2 a mistake of the user's (one sentence on stderr), 3 numbers
that are not finite, 4 another process of the same run is lost, 130 interrupted, 141 the reader of
stdout has gone, 143 terminated; docs/faults.md says more. A fault of the program shows its
traceback, with code 1; with $JAXFORMER_DEBUG set, so does a mistake.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from jaxformer.cli.mistakes import Mistake, exit_code

COMMANDS = {
    "train": "train a model, or go on where a training has stopped",
    "evaluate": "score a trained model: sacreBLEU, chrF, perplexity",
    "translate": "translate lines of text with a trained model",
    "sweep": "train and score the rows of a table, with several seeds",
    "report": "show what a sweep has found: tables, a test, pictures",
    "preflight": "foretell what a training needs on a machine: memory, time, traffic",
    "attention": "draw what every head looks at in a sentence",
    "export": "write a trained model for other programs",
    "memory": "remember texts, and find passages of them by what they mean",
}
_USAGE = "\n".join(
    [
        'jaxformer: the Transformer of "Attention Is All You Need", in JAX and Flax',
        "",
        "usage: jaxformer COMMAND [OPTIONS]",
        "",
        *(f"  {name:<10} {says}" for name, says in COMMANDS.items()),
        "",
        "jaxformer COMMAND --help says more. jaxformer --version prints the version.",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line (by default the process's) and returns the exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed by whoever started this process: nobody speaks or listens.
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(null, mode, encoding="utf-8"))
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return exit_code("jaxformer", lambda: _dispatch(words))
    except SystemExit as end:
        # How argparse ends after --help.
        return int(end.code or 0)


def _dispatch(argv: list[str]) -> int:
    name = argv[0] if argv else ""
    if name in ("-h", "--help", "help"):
        print(_USAGE)
        return 0
    if name == "--version":
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"jaxformer {version('jaxformer')}")
        except PackageNotFoundError:
            print("jaxformer, run from a folder without being installed")
        return 0
    if not name:
        raise Mistake(f"A command is needed: {', '.join(COMMANDS)}. See jaxformer --help.")
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(COMMANDS)}."
        raise Mistake(f"Unknown command {name!r}. {hint}")
    return importlib.import_module(f"jaxformer.cli.{name}").run(argv[1:])
