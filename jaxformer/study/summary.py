"""What a report says, as plain data: report.json, of which the tables are other forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxformer.io.protocol import PROTOCOLS
from jaxformer.io.record import to_json
from jaxformer.study.records import Sweep
from jaxformer.study.rows import Row, Spread, base_of, spread, varying
from jaxformer.study.significance import SAMPLES, SEED, Comparison, EarlierP

_VERSION = 1

Settings = Mapping[str, Any]


def _layers(settings: Settings) -> int | str:
    encoder, decoder = (settings[f"model.num_{half}coder_layers"] for half in ("en", "de"))
    return encoder if encoder == decoder else f"{encoder} + {decoder}"


def _named(key: str) -> Callable[[Settings], Any]:
    return lambda settings: settings.get(key)


STEPS = "steps"
# The columns of the paper's Table 3; what else varies stands before the steps.
_COLUMNS: dict[str, Callable[[Settings], Any]] = {
    "N": _layers,
    "d_model": _named("model.d_model"),
    "d_ff": _named("model.d_ff"),
    "h": _named("model.num_heads"),
    "d_k": _named("model.d_k"),
    "d_v": _named("model.d_v"),
    "dropout": _named("train.dropout_rate"),
    "smoothing": _named("train.label_smoothing"),
    STEPS: _named("train.num_steps"),
}
_COVERED = {
    *(f"model.{name}" for name in ("num_encoder_layers", "num_decoder_layers", "d_model", "d_ff")),
    *(f"model.{name}" for name in ("num_heads", "d_k", "d_v")),
    *(f"train.{name}" for name in ("dropout_rate", "label_smoothing", "num_steps")),
}


def summarise(
    sweep: Sweep, rows: Sequence[Row], comparisons: Mapping[int, Comparison]
) -> dict[str, Any]:
    """Returns the report as what strict JSON can hold.

    Its keys: `version`, `sweep`, `scale`, `split`; `protocol` of published results that rows were
    scored by, None if by none or by several; `settings`, the names of the columns that say
    what was run; `rows`, each with its state, seeds, settings, figures (mean, standard deviation,
    value by seed), the paper's figures and the comparison with base, in which `p_earlier` names
    seeds whose p is that of an earlier report; `unfinished`, the members that
    are not in the figures; `notes`, sentences to stand under the table.

    Args:
      rows: `make_rows` of the sweep's members.
      comparisons: by the index of the row.
    """
    is_papers = any(row.members[0].paper for row in rows)
    protocols = _protocols(rows)
    protocol = protocols[0] if len(protocols) == 1 else None
    columns = _columns(rows, is_papers)
    unfinished = [
        {
            "id": member.id,
            "group": member.group,
            "label": member.row,
            "seed": member.seed,
            "state": member.state,
            "why": member.why,
        }
        for row in rows
        for member in row.members
        if member.state != "finished"
    ]
    return to_json(
        {
            "version": _VERSION,
            "sweep": sweep.name,
            "scale": sweep.scale,
            "split": sweep.split,
            "protocol": protocol,
            "settings": list(columns),
            "rows": [
                _row(row, rows, columns, comparisons.get(number), protocol)
                for number, row in enumerate(rows)
            ],
            "unfinished": unfinished,
            "notes": [
                *_notes(sweep, rows, comparisons, is_papers),
                *_notes_of_protocols(protocols),
            ],
        }
    )


def earlier_p_values(report: Any, split: str) -> EarlierP:
    """Returns what an earlier report.json has of the split, as far as it is one."""
    found = {}
    if not isinstance(report, dict) or (report.get("version"), report.get("split")) != (
        _VERSION,
        split,
    ):
        return found
    rows = report.get("rows")
    for row in rows if isinstance(rows, list) else ():
        try:
            values = row["comparison"]["p_values"].items()
            pair = [each["bleu"]["values"] for each in (row, rows[row["base"]])]
            for seed, p in values:
                of_row, of_base = (scores[seed] for scores in pair)
                if all(type(each) in (int, float) for each in (of_row, of_base, p)) and 0 <= p <= 1:
                    found[row["group"], row["label"], int(seed)] = (of_row, of_base, p)
        # A row without a comparison, or none at all.
        except (TypeError, LookupError, ValueError, AttributeError):
            continue
    return found


def _columns(rows: Sequence[Row], is_papers: bool) -> dict[str, Callable[[Settings], Any]]:
    keys = varying(rows)
    if not is_papers:
        return {key: _named(key) for key in keys}
    others = {key: _named(key) for key in keys if key not in _COVERED}
    return {
        **{name: find for name, find in _COLUMNS.items() if name != STEPS},
        **others,
        STEPS: _COLUMNS[STEPS],
    }


def _row(
    row: Row,
    rows: Sequence[Row],
    columns: Mapping[str, Callable[[Settings], Any]],
    comparison: Comparison | None,
    protocol: str | None,
) -> dict[str, Any]:
    by_protocol = {
        seed: scores.published[1]
        for seed, scores in row.scores.items()
        if scores.published and scores.published[0] == protocol
    }
    base = base_of(row, rows)
    return {
        "group": row.group,
        "letter": row.letter,
        "label": row.label,
        "state": row.state,
        # Its place among the rows; its own for base itself.
        "base": None if base is None else next(n for n, each in enumerate(rows) if each is base),
        "seeds": {
            "finished": sorted(row.scores),
            "planned": [member.seed for member in row.members],
        },
        "settings": {name: find(row.settings) for name, find in columns.items()},
        "perplexity": _spread(
            spread({seed: scores.perplexity for seed, scores in row.scores.items()})
        ),
        "bleu": _spread(spread({seed: scores.bleu for seed, scores in row.scores.items()})),
        "protocol_bleu": _spread(spread(by_protocol)),
        "parameters": row.parameters,
        "paper": dict(row.members[0].paper),
        "comparison": None if comparison is None else _comparison(comparison),
    }


def _spread(found: Spread) -> dict[str, Any]:
    return dataclasses.asdict(found)


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "bleu_difference": _spread(found.difference),
        "p": found.p,
        "p_values": dict(found.p_values),
        "p_earlier": list(found.earlier),
        "seeds_agree": found.agrees,
        "why_not": found.why_not,
    }


def _notes(
    sweep: Sweep, rows: Sequence[Row], comparisons: Mapping[int, Comparison], is_papers: bool
) -> list[str]:
    scores = [each for row in rows for each in row.scores.values()]
    notes = []
    if scores:
        sizes = _each(f"{each.sentences:,} sentences" for each in scores)
        notes.append(
            f"Scores are of {sizes} of the split {sweep.split}; {_each(s.decoding for s in scores)}"
            f". BLEU is sacreBLEU's, {_each(s.signature for s in scores)}. Perplexity is per word "
            "piece, without smoothing."
        )
    if any(len(row.members) > 1 for row in rows):
        notes.append(
            "Figures are means over the seeds that are finished, ± their standard deviation (n - 1)"
            " where there are two or more."
        )
    if any(row.is_base for row in rows):
        notes.append("A setting left blank is that of base.")
    if comparisons:
        notes.extend(_notes_of_test(comparisons))
    if is_papers and sweep.scale != "paper":
        notes.append(
            "Labels and the paper's figures are those of its Table 3 (English-German, "
            "newstest2013); the settings are those that stand for them at this scale. Corpus, "
            "sizes and steps are others than the paper's: compare the order of rows, not the "
            "figures."
        )
    return notes


def _notes_of_test(comparisons: Mapping[int, Comparison]) -> list[str]:
    notes = []
    if any(each.p_values for each in comparisons.values()):
        notes.append(
            f"p is that of sacreBLEU's paired bootstrap ({SAMPLES:,} resamples of the sentences, "
            f"seed {SEED}): the row's translations beside base's of the same seed, and of all "
            "seeds the largest p. A small one says that the models at hand would differ in BLEU on "
            "other sentences too; it does not say that other trainings would, which the spread "
            "over seeds is for. sacreBLEU looks at one side only, so that 0.025, not 0.05, is the "
            "customary level of 5%; and among 20 rows one below it is no surprise. "
            "Where it says mixed, the seeds disagree in which is better."
        )
    if any(each.earlier for each in comparisons.values()):
        notes.append(
            "A p in brackets, or that of one of its seeds, is an earlier report's: the scores are "
            "the same, and translations or references are no longer here."
        )
    reasons = list(dict.fromkeys(each.why_not for each in comparisons.values() if each.why_not))
    notes.extend(f"p was not computed: {reason.removesuffix('.')}." for reason in reasons)
    return notes


def _protocols(rows: Sequence[Row]) -> list[str]:
    found = (scores.published for row in rows for scores in row.scores.values())
    return sorted({published[0] for published in found if published})


def _notes_of_protocols(protocols: Sequence[str]) -> list[str]:
    if len(protocols) > 1:
        return [f"Scored by several protocols ({', '.join(protocols)}), which do not compare."]
    return [
        f"BLEU by {protocol}: {PROTOCOLS[protocol][1]}. p is not of it."
        for protocol in protocols
        if protocol in PROTOCOLS
    ]


def _each(texts: Any) -> str:
    return " or ".join(dict.fromkeys(texts))
