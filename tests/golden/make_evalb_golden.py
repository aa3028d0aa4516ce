"""Makes evalb.json: random pairs of trees, and what EVALB itself counts of them.

    python tests/golden/make_evalb_golden.py EVALB_FOLDER

EVALB is the program of Sekine and Collins, in the public domain (https://nlp.cs.nyu.edu/evalb/;
also the folder EVALB of github.com/nikitakit/self-attentive-parser, which this file was made with).
Its folder must hold the compiled `evalb` (`gcc -w -o evalb evalb.c`) and COLLINS.prm.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LABELS = ["NP", "VP", "PP", "S", "ADVP", "PRT", "SBAR"]
TAGS = ["NN", "VB", "IN", "DT"]
PUNCTUATION = [",", ".", ":", "``", "''"]
PAIRS = 60


def random_tree(generator, leaves, depth=0):
    """A random tree over the leaves: "(LABEL ...)", with chains of phrases of one child."""
    most = min(len(leaves), 4) if depth < 6 else len(leaves)
    cuts = sorted(generator.sample(range(1, len(leaves)), generator.randint(1, most) - 1))
    parts = []
    for start, end in zip([0, *cuts], [*cuts, len(leaves)], strict=True):
        some = leaves[start:end]
        if depth == 6 or (len(some) == 1 and generator.random() < 0.6):
            parts += some
        else:
            parts.append(random_tree(generator, some, depth + 1))
    return f"({generator.choice(LABELS)} {' '.join(parts)})"


def random_pair(generator):
    """Two trees over the same words, which agree about what is punctuation."""
    count = generator.randint(1, 14)
    tags = ["NN", *(generator.choice(TAGS * 2 + PUNCTUATION) for _ in range(count - 1))]
    others = [
        generator.choice(TAGS) if tag in TAGS and generator.random() < 0.2 else tag for tag in tags
    ]
    seeds = [generator.random(), generator.random()]
    trees = []
    # Half of the pairs have the same shape at first.
    for seed, line in zip(generator.choice([seeds, seeds[:1] * 2]), (tags, others), strict=True):
        leaves = [f"({tag} w{number})" for number, tag in enumerate(line)]
        trees.append(f"(TOP {random_tree(random.Random(seed), leaves)})")
    trees[1] = re.sub(
        rf"\((?:{'|'.join(LABELS)}) \(",
        lambda found: found[0] if generator.random() < 0.8 else f"({generator.choice(LABELS)} (",
        trees[1],
    )
    return trees


def evalb(folder, pairs, labelled):
    """EVALB's rows: matched, reference and candidate brackets, words, words tagged alike."""
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / name for name in ("reference", "candidate", "rules.prm")]
        for side, path in enumerate(paths[:2]):
            path.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
        rules = (folder / "COLLINS.prm").read_text(encoding="utf-8")
        assert "\nLABELED 1" in rules
        paths[2].write_text(rules.replace("\nLABELED 1", f"\nLABELED {labelled:d}"), "utf-8")
        command = [folder / "evalb", "-p", paths[2], paths[0], paths[1]]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in text.split("=\n")[1].splitlines()]
    rows = [row for row in rows if row[0].isdigit()][: len(pairs)]
    assert [int(row[0]) for row in rows] == list(range(1, len(pairs) + 1))
    # No sentence was left out.
    assert {row[2] for row in rows} == {"0"}
    (f1,) = [line for line in text.splitlines() if line.startswith("Bracketing FMeasure")][:1]
    return [[int(row[place]) for place in (5, 6, 7, 9, 10)] for row in rows], float(f1.split()[-1])


def main():
    """Writes evalb.json beside this file."""
    folder = Path(sys.argv[1]).resolve()
    generator = random.Random(0)
    pairs = [random_pair(generator) for _ in range(PAIRS)]
    golden = {"fields": ["matched", "reference", "candidate", "words", "tagged"], "pairs": pairs}
    for name, labelled in (("labelled", True), ("unlabelled", False)):
        golden[name], golden[f"{name}_f1"] = evalb(folder, pairs, labelled)
    path = Path(__file__).with_name("evalb.json")
    path.write_text(json.dumps(golden, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
