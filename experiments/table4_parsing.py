"""Table 4: a trained parser's F1 by EVALB's rules, all of it and by the length of sentences.

    python experiments/table4_parsing.py --workdir=runs/parsing --split=valid --limit=300

Writes to the output folder (WORKDIR/parsing) SPLIT.json, SPLIT.md and SPLIT.png with the scores,
SPLIT.txt with the parser's output as it is, short sentences first, and SPLIT.candidate.ptb and
SPLIT.reference.ptb for EVALB itself. What is no tree over the words counts as a tree without
brackets, and is counted. The output is kept as it comes: the same command goes on where it was
stopped.
"""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxformer.cli import build
from jaxformer.cli.mistakes import Mistake, answered
from jaxformer.cli.options import whole_number
from jaxformer.cli.trained import read_settings
from jaxformer.cli.translator import open_trained
from jaxformer.data.bracket_vocabulary import BracketVocabulary
from jaxformer.data.treebank import COLUMNS
from jaxformer.files import replace_file
from jaxformer.io.evalb import BracketScore, compare, right_branching, total
from jaxformer.io.plot_lengths import plot_by_length
from jaxformer.run.restoring import Trained
from jaxformer.run.translation import make_translate
from jaxformer.trees.bracketed import Tree, leaves, write_tree
from jaxformer.trees.linear import FAULTS, Malformed, delinearise, linearise
from jaxformer.trees.plain import TOP

# Words of the longest sentence of each class.
CLASSES = (10, 20, 30, 40, 50, 60, 80)
# Sentences that are decoded, and then kept.
PART = 512
PENALTY = "jaxformer.decode.penalty:gnmt_penalty"


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--split", default="valid", help="train, valid or test")
    parser.add_argument("--limit", type=whole_number, help="so many sentences of it, evenly spaced")
    parser.add_argument("--num_beams", type=whole_number, help="1 for greedy search")
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty")
    parser.add_argument(
        "--hold_to_trees",
        action="store_true",
        help="let the search build nothing but trees over the words (the paper's is free)",
    )
    parser.add_argument("--output", help="folder for the results (default: WORKDIR/parsing)")
    arguments = parser.parse_args()
    return answered("table4_parsing", lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> None:
    """Parses the split and writes what came of it.

    Raises: ValueError or OSError if the run or the split is not there, or not readable.
    """
    given = {"decode.num_beams": arguments.num_beams, "decode.alpha": arguments.alpha}
    changes = [(key, str(value)) for key, value in given.items() if value is not None]
    config = read_settings(arguments.workdir, changes)
    if (config["data"]["source"], config["data"]["target"]) != COLUMNS:
        raise Mistake(
            f"{arguments.workdir} is no parser: it was trained from {config['data']['source']!r} "
            f"to {config['data']['target']!r}. Name a run of configs/parsing_small.py."
        )
    pairs = list(build.make_corpus(config, [arguments.split]).pairs(arguments.split))
    if arguments.limit and arguments.limit < len(pairs):
        chosen = np.linspace(0, len(pairs) - 1, arguments.limit).round().astype(int)
        pairs = [pairs[number] for number in chosen.tolist()]
    trained = open_trained(config, arguments.workdir)
    folder = Path(arguments.output or Path(arguments.workdir) / "parsing")
    stem = folder / arguments.split
    names = ("num_beams", "alpha", "extra_length", "length_penalty")
    decode = {name: config["decode"][name] for name in names}
    details = {
        "split": arguments.split,
        "checkpoints": trained.steps,
        **decode,
        "hold_to_trees": arguments.hold_to_trees,
    }
    sentences = [sentence for sentence, _ in pairs]
    outputs = parse(config, trained, sentences, stem.with_suffix(".txt"), details)
    references = [delinearise(tree, sentence.split()) for sentence, tree in pairs]
    record, candidates = assess(outputs, references)
    record = {**details, **record}
    replace_file(stem.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    table = as_table(record)
    replace_file(stem.with_suffix(".md"), table)
    for name, trees in (
        ("reference", references),
        ("candidate", map(for_evalb, candidates, references)),
    ):
        lines = [f"{write_tree(Tree(TOP, (tree,)))}\n" for tree in trees]
        replace_file(stem.with_suffix(f".{name}.ptb"), "".join(lines))
    draw(record, stem.with_suffix(".png"))
    print(table)
    print(f"Written: {stem}.json, .md, .png, .txt, .reference.ptb and .candidate.ptb")


def parse(
    config: build.Config,
    trained: Trained,
    sentences: Sequence[str],
    path: Path,
    details: dict[str, Any],
) -> list[str]:
    """Returns the output for every sentence, in order, and keeps it in `path` as it comes.

    There, short sentences come first, after a line that says what the outputs were made with; a
    file of another making is begun anew.
    """
    tokenizer, decode = trained.tokenizer, config["decode"]
    grammar = None
    if details["hold_to_trees"]:
        if not isinstance(tokenizer, BracketVocabulary):
            raise Mistake(
                "--hold_to_trees needs a vocabulary in which each symbol is a token, and this run "
                f"has data.vocab_type={config['data']['vocab_type']!r}. Train one with 'brackets', "
                "or leave it out."
            )
        grammar = tokenizer.grammar()
    lengths = [len(tokens) for tokens in tokenizer.encode(sentences)]
    translate = make_translate(
        trained.model,
        tokenizer,
        num_beams=decode["num_beams"],
        alpha=decode["alpha"],
        extra_length=decode["extra_length"],
        length_penalty=build.make_length_penalty(config),
        # A tree cannot be put together from those of two halves.
        longest=max(lengths),
        batch_tokens=decode["batch_tokens"],
        grammar=grammar,
    )
    # Of like length together, so that few slots are empty.
    order = np.argsort(lengths, kind="stable").tolist()
    header = json.dumps({**details, "sentences": len(sentences)})
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    # The penalty is not named in files that are older than the choice.
    older = header.replace(f'"length_penalty": "{PENALTY}", ', "")
    done = lines[1:] if lines and lines[0] in (header, older) else []
    while len(done) < len(sentences):
        part = order[len(done) : len(done) + PART]
        done += translate(trained.params, [sentences[number] for number in part])
        replace_file(path, "".join(f"{line}\n" for line in (header, *done)))
        print(f"{len(done):,} of {len(sentences):,} sentences", file=sys.stderr)
    return [done[place] for place in np.argsort(order).tolist()]


def assess(
    outputs: Iterable[str], references: Sequence[Tree]
) -> tuple[dict[str, Any], list[Tree | None]]:
    """Returns the scores, and the candidates: None where an output is no tree."""
    candidates: list[Tree | None] = []
    faults: Counter[str] = Counter()
    for output, reference in zip(outputs, references, strict=True):
        try:
            candidates.append(delinearise(output, [leaf.word for leaf in leaves(reference)]))
        except Malformed as malformed:
            faults[malformed.fault] += 1
            candidates.append(None)
    pairs = list(zip(candidates, references, strict=True))
    kinds = {
        "labelled": [compare(*pair) for pair in pairs],
        "unlabelled": [compare(*pair, is_labelled=False) for pair in pairs],
        "right_branching": [
            compare(right_branching(reference), reference, is_labelled=False)
            for reference in references
        ],
    }
    labelled = kinds["labelled"]
    well_formed = total(score for score in labelled if not score.malformed)
    record = {
        "sentences": len(references),
        "malformed": sum(faults.values()),
        "faults": {fault: faults[fault] for fault in FAULTS if faults[fault]},
        **{kind: as_fields(total(scores)) for kind, scores in kinds.items()},
        "well_formed_only": as_fields(well_formed),
        "by_length": by_length(kinds, references),
    }
    return record, candidates


def by_length(
    kinds: dict[str, list[BracketScore]], references: Sequence[Tree]
) -> list[dict[str, Any]]:
    """Returns the scores of each class of length; words count with punctuation."""
    class_of = np.searchsorted(CLASSES, [len(leaves(reference)) for reference in references])
    names = [f"{low + 1}-{high}" for low, high in zip((0, *CLASSES), CLASSES, strict=False)]
    rows = []
    for number, name in enumerate([*names, f"over {CLASSES[-1]}"]):
        members = np.flatnonzero(class_of == number).tolist()
        if members:
            sums = {kind: total(scores[i] for i in members) for kind, scores in kinds.items()}
            rows.append(
                {
                    "words": name,
                    "sentences": len(members),
                    "malformed": sums["labelled"].malformed,
                    **{kind: round(score.f1, 2) for kind, score in sums.items()},
                }
            )
    return rows


def as_fields(score: BracketScore) -> dict[str, Any]:
    """Returns what was counted, and the shares."""
    names = ("f1", "recall", "precision", "exact_match", "tag_accuracy")
    return {
        **{name: round(getattr(score, name), 2) for name in names},
        **dataclasses.asdict(score),
    }


def as_table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    steps = ", ".join(f"{step:,}" for step in record["checkpoints"])
    faults = ", ".join(f"{fault} {count:,}" for fault, count in record["faults"].items())
    lines = [
        f"{record['sentences']:,} sentences of {record['split']}, beam {record['num_beams']}, "
        f"alpha {record['alpha']}, output at most input + {record['extra_length']}; checkpoints "
        f"{steps}.{' Held to trees.' if record['hold_to_trees'] else ''}",
        f"Malformed: {record['malformed']:,}{f' ({faults})' if faults else ''}.",
        "",
        "| | F1 | recall | precision | all brackets right | tags right |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, name in (
        ("labelled", "labelled"),
        ("well_formed_only", "labelled, without the malformed"),
        ("unlabelled", "unlabelled"),
        ("right_branching", "unlabelled, right-branching trees"),
    ):
        row = record[kind]
        # The baseline is given its tags.
        tags = "" if kind == "right_branching" else f"{row['tag_accuracy']:.2f}"
        lines.append(
            f"| {name} | {row['f1']:.2f} | {row['recall']:.2f} | {row['precision']:.2f} | "
            f"{row['exact_match']:.2f} | {tags} |"
        )
    lines += [
        "",
        "| words | sentences | malformed | labelled F1 | unlabelled F1 | right-branching |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row['words']} | {row['sentences']:,} | {row['malformed']:,} | "
            f"{row['labelled']:.2f} | {row['unlabelled']:.2f} | {row['right_branching']:.2f} |"
            for row in record["by_length"]
        ),
        "",
    ]
    return "\n".join(lines)


def for_evalb(candidate: Tree | None, reference: Tree) -> Tree:
    """Returns the candidate with the reference's tags, flat under the root if it is malformed.

    By other tags EVALB would look for punctuation elsewhere, and leave the sentence out.
    """
    words = leaves(reference)
    if candidate is None:
        return Tree(TOP, tuple(words))
    tags = iter(leaf.tag for leaf in words)
    symbols = linearise(candidate).split()
    tagged = (symbol if symbol[0] in "()" else next(tags) for symbol in symbols)
    return delinearise(" ".join(tagged), [leaf.word for leaf in words])


def draw(record: dict[str, Any], path: Path) -> None:
    """Draws F1 against the length of sentences."""
    rows = record["by_length"]
    names = {
        "labelled": "labelled",
        "unlabelled": "unlabelled",
        "right_branching": "unlabelled, right-branching trees",
    }
    plot_by_length(
        {name: [row[kind] for row in rows] for kind, name in names.items()},
        [row["words"] for row in rows],
        [row["sentences"] for row in rows],
        path,
        "F1 (EVALB's rules)",
    )


if __name__ == "__main__":
    sys.exit(main())
