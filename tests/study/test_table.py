"""The tables of a small sweep, whole; they were read by eye, and are compared ever since."""

import csv
import io
import json

import pytest

from jaxformer.study.records import read_sweep
from jaxformer.study.rows import make_rows, spread
from jaxformer.study.significance import Comparison
from jaxformer.study.summary import summarise
from jaxformer.study.table import (
    columns,
    comma_separated,
    escape_latex,
    escape_markdown,
    latex,
    markdown,
    title,
)
from tests.study.sweeps import (
    PAPER_BASE,
    make_member,
    write_manifest,
    write_metrics,
    write_scores,
)

ROWS = (
    ("base", "base", {}, PAPER_BASE),
    ("b_key_size", "d_k=8", {"model.d_k": 8}, {"perplexity": 5.0, "bleu": 25, "parameters": 58e6}),
    (
        "c_size",
        "N=6",
        {f"model.num_{half}coder_layers": 6 for half in ("en", "de")},
        {"bleu": 25.5},
    ),
    ("e_positions", "learned", {"model.positions": "jaxformer.model.positions:Learned"}, None),
)
# Row -> seed -> (BLEU, perplexity).
SCORES = {
    "base": {0: (30.0, 6.0), 1: (31.0, 6.5)},
    "d_k=8": {0: (29.25, 6.25), 1: (30.0, 6.75)},
    "learned": {1: (31.5, "inf")},
}
COMPARISONS = {
    1: Comparison(spread({0: -0.75, 1: -1.0}), {0: 0.25, 1: 0.125}, ""),
    3: Comparison(spread({1: 0.5}), {}, "the data is 100% away"),
}


def make_report(folder, rows=ROWS, scores=SCORES, comparisons=COMPARISONS, scale="laptop"):
    members = [
        make_member(group, row, seed, overrides, paper)
        for seed in (0, 1)
        for group, row, overrides, paper in rows
    ]
    for member in members:
        found = scores.get(member["row"], {}).get(member["seed"])
        if found:
            parameters = 2_570_000 if member["row"] == "base" else 1_987_654
            write_scores(folder, member, bleu=found[0], perplexity=found[1], parameters=parameters)
        elif member["row"] == "learned":
            write_metrics(folder, member, 1000, 6.0)
    write_manifest(folder, members, scale)
    sweep = read_sweep(folder)
    return summarise(sweep, make_rows(sweep.members), comparisons)


@pytest.fixture
def report(tmp_path):
    return make_report(tmp_path / "runs_1")


MARKDOWN = r"""
# Table 3 of the paper, laptop scale: runs_1

| row  | label   |   N | d_model | d_ff |   h | d_k | d_v | dropout | smoothing |  positions | steps |  seeds |  perplexity | perplexity, paper |         BLEU | BLEU, paper |  BLEU - base |            p | parameters (M) | parameters (M), paper |
| ---- | ------- | --: | ------: | ---: | --: | --: | --: | ------: | --------: | ---------: | ----: | -----: | ----------: | ----------------: | -----------: | ----------: | -----------: | -----------: | -------------: | --------------------: |
| base |         |   4 |     128 |  256 |   4 |  32 |  32 |     0.3 |       0.1 | Sinusoidal | 3,000 |      2 | 6.25 ± 0.35 |              4.92 | 30.50 ± 0.71 |        25.8 |              |              |           2.57 |                    65 |
| B    | d_k=8   |     |         |      |     |   8 |     |         |           |            |       |      2 | 6.50 ± 0.35 |              5.00 | 29.62 ± 0.53 |        25.0 | -0.88 ± 0.18 |        0.250 |           1.99 |                    58 |
| C    | N=6     |   6 |         |      |     |     |     |         |           |            |       | 0 of 2 |     missing |                   |      missing |        25.5 |              |              |                |                       |
| E    | learned |     |         |      |     |     |     |         |           |    Learned |       | 1 of 2 |         inf |                   |        31.50 |             |        +0.50 | not computed |           1.99 |                       |
"""  # noqa: E501

MISSING = """
Missing or unfinished, and in no figure:

- c_size/N=6, seeds 0, 1: not started
- e_positions/learned, seed 0: at step 1,000 of 3,000

![of heads](heads.svg)
"""


def test_markdown(report):
    text = markdown(report, [("heads.svg", "of heads")])
    assert text.startswith(MARKDOWN.lstrip())
    assert text.endswith(MISSING)
    notes = text.removeprefix(MARKDOWN.lstrip()).removesuffix(MISSING).strip().split("\n\n")
    assert notes == [escape_markdown(note) for note in report["notes"]]


LATEX = r"""
% Table 3 of the paper, laptop scale: runs_1. Needs \usepackage{booktabs}.
\begin{tabular}{llrrrrrrrrrrrrrrrrrrr}
\toprule
row & label & $N$ & $d_{\mathrm{model}}$ & $d_{\mathrm{ff}}$ & $h$ & $d_k$ & $d_v$ & $P_{\mathit{drop}}$ & $\epsilon_{\mathit{ls}}$ & positions & steps & seeds & perplexity & perplexity, paper & BLEU & BLEU, paper & BLEU - base & p & parameters (M) & parameters (M), paper \\
\midrule
base &  & 4 & 128 & 256 & 4 & 32 & 32 & 0.3 & 0.1 & Sinusoidal & 3,000 & 2 & 6.25 $\pm$ 0.35 & 4.92 & 30.50 $\pm$ 0.71 & 25.8 &  &  & 2.57 & 65 \\{}
\midrule
(B) & d\_k=8 &  &  &  &  & 8 &  &  &  &  &  & 2 & 6.50 $\pm$ 0.35 & 5.00 & 29.62 $\pm$ 0.53 & 25.0 & $-$0.88 $\pm$ 0.18 & 0.250 & 1.99 & 58 \\{}
\midrule
(C) & N=6 & 6 &  &  &  &  &  &  &  &  &  & 0 of 2 & missing &  & missing & 25.5 &  &  &  &  \\{}
\midrule
(E) & learned &  &  &  &  &  &  &  &  & Learned &  & 1 of 2 & inf &  & 31.50 &  & +0.50 & not computed & 1.99 &  \\{}
\bottomrule
\end{tabular}
"""  # noqa: E501


def test_latex(report):
    text = latex(report)
    assert text.startswith(LATEX.lstrip())
    assert r"\footnotesize p was not computed: the data is 100\% away.\par}" in text
    assert "N=6, seeds 0, 1: not started; " in text
    assert text.count("{") == text.count("}")


CSV = """
group,row,label,state,N,d_model,d_ff,h,d_k,d_v,dropout,smoothing,model.positions,steps,\
seeds_finished,seeds_planned,perplexity_mean,perplexity_deviation,perplexity_paper,bleu_mean,\
bleu_deviation,bleu_paper,bleu_difference_mean,bleu_difference_deviation,p,p_remark,parameters,\
parameters_paper
base,base,base,finished,4,128,256,4,32,32,0.3,0.1,jaxformer.model.positions:Sinusoidal,3000,\
2,2,6.25,0.353553,4.92,30.5,0.707107,25.8,,,,,2570000,65000000.0
b_key_size,B,d_k=8,finished,4,128,256,4,8,32,0.3,0.1,jaxformer.model.positions:Sinusoidal,3000,\
2,2,6.5,0.353553,5.0,29.625,0.53033,25,-0.875,0.176777,0.25,,1987654,58000000.0
c_size,C,N=6,missing,6,128,256,4,32,32,0.3,0.1,jaxformer.model.positions:Sinusoidal,3000,\
0,2,,,,,,25.5,,,,,,
e_positions,E,learned,partly,4,128,256,4,32,32,0.3,0.1,jaxformer.model.positions:Learned,3000,\
1,2,inf,,,31.5,,,0.5,,,not computed: the data is 100% away,1987654,
"""


def test_latex_names_a_group_once(tmp_path):
    rows = [(group, str(n), {"model.d_ff": n}, PAPER_BASE) for n, group in enumerate(("a_x",) * 2)]
    report = make_report(tmp_path, [*rows, ("big", "big", {}, None)], {}, {})
    found = [line for line in latex(report).splitlines() if line.endswith(r"\\{}")]
    assert [line.split(" & ")[:2] for line in found] == [["(A)", "0"], ["", "1"], ["big", ""]]
    assert latex(report).count("midrule") == 2


def test_csv_has_every_cell(report):
    assert comma_separated(report) == CSV.lstrip()
    rows = list(csv.DictReader(io.StringIO(comma_separated(report))))
    assert [row["d_model"] for row in rows] == ["128"] * 4


def test_what_varies_besides_the_papers_settings_has_a_column(tmp_path):
    rows = (ROWS[0], ("big", "big", {"optimizer.warmup_steps": 900, "model.d_k": 8}, PAPER_BASE))
    report = make_report(tmp_path, rows, comparisons={})
    found = {column.name: list(column.cells) for column in columns(report)}
    assert found["warmup_steps"] == ["500", "900"]
    assert found["row"] == ["base", "big"]
    assert found["label"] == ["", ""]
    assert list(found).index("warmup_steps") == list(found).index("steps") - 1
    assert "positions" not in found


def test_an_ad_hoc_sweep_has_columns_for_what_varies(tmp_path):
    rows = [
        ("mine", f"lr={rate}", {"optimizer.learning_rate": rate, "model.residual": residual}, None)
        for rate, residual in ((0.5, "a:post"), (1.0, "a:pre"), (2.0, "b:pre"))
    ]
    report = make_report(tmp_path / "mine", rows, {"lr=0.5": {0: (20.0, 7.0)}}, {}, scale="")
    assert title(report) == "Sweep mine"
    assert report["settings"] == ["model.residual", "optimizer.learning_rate"]
    found = {column.name: list(column.cells) for column in columns(report)}
    assert found == {
        "label": ["lr=0.5", "lr=1.0", "lr=2.0"],
        # Two of them end alike.
        "residual": ["a:post", "a:pre", "b:pre"],
        "learning_rate": ["0.5", "1", "2"],
        "seeds": ["1 of 2", "0 of 2", "0 of 2"],
        "perplexity": ["7.00", "missing", "missing"],
        "BLEU": ["20.00", "missing", "missing"],
        "parameters (M)": ["1.99", "", ""],
    }
    assert not any("base" in note or "paper" in note for note in report["notes"])


def test_nothing_is_finished(tmp_path):
    report = make_report(tmp_path, scores={}, comparisons={})
    found = {column.name: list(column.cells) for column in columns(report)}
    assert found["BLEU"] == ["missing", "missing", "missing", "unfinished"]
    assert len(report["unfinished"]) == 8
    assert "  missing |" in markdown(report)
    assert "missing" in latex(report)


def test_published_protocols_have_a_column(tmp_path):
    def report_of(folder, *protocols):
        members = [make_member("g", row, seed) for row in ("base", "x") for seed in (0, 1)]
        for number, (member, protocol) in enumerate(zip(members, protocols, strict=True)):
            by = {"published_protocol": {"protocol": protocol, "bleu": 40.0 + number}}
            write_scores(tmp_path / folder, member, **(by if protocol else {}))
        write_manifest(tmp_path / folder, members, "")
        sweep = read_sweep(tmp_path / folder)
        return summarise(sweep, make_rows(sweep.members), {})

    report = report_of("one", "paper", "paper", "", "")
    assert report["protocol"] == "paper"
    (column,) = [column for column in columns(report) if "paper" in column.name]
    assert (column.name, column.cells) == ("BLEU by paper", ["40.50 ± 0.71", ""])
    first, second = csv.DictReader(io.StringIO(comma_separated(report)))
    assert float(first["protocol_bleu_mean"]) == 40.5
    assert second["protocol_bleu_mean"] == ""
    assert "BLEU by paper: Moses's tokens, case kept" in markdown(report)

    report = report_of("two", "paper", "multi_bleu_lc", "", "")
    assert report["protocol"] is None
    assert "BLEU by" not in markdown(report)
    assert "Scored by several protocols (multi_bleu_lc, paper)" in report["notes"][-1]
    assert report_of("none", "", "", "", "")["protocol"] is None


def test_p_where_seeds_disagree(tmp_path):
    mixed = Comparison(spread({0: -0.75, 1: 1.0}), {0: 0.25, 1: 0.125}, "")
    report = make_report(tmp_path, comparisons={1: mixed})
    found = {column.name: list(column.cells) for column in columns(report)}
    assert found["p"][1] == "mixed"
    assert found["BLEU - base"][1] == "+0.12 ± 1.24"
    assert ",,mixed,1987654," in comma_separated(report)
    # Of one seed the translations are lost.
    partly = Comparison(spread({0: -0.75, 1: -1.0}), {0: 0.25}, "lost")
    report = make_report(tmp_path / "partly", comparisons={1: partly})
    found = {column.name: list(column.cells) for column in columns(report)}
    assert found["p"][1] == "not computed"
    assert "not computed: lost" in comma_separated(report)


def test_the_summary_is_strict_json_with_every_number(report):
    text = json.dumps(report, allow_nan=False)
    again = json.loads(text)
    row = again["rows"][1]
    assert row["bleu"]["values"] == {"0": 29.25, "1": 30.0}
    assert row["comparison"]["p_values"] == {"0": 0.25, "1": 0.125}
    assert row["comparison"]["p"] == 0.25
    assert again["rows"][3]["perplexity"]["mean"] == "inf"
    assert markdown(again) == markdown(report)
    assert latex(again) == latex(report)
    assert comma_separated(again) == comma_separated(report)


NASTY = 'a|b\\ *c* _d_ e_f `g` <h> [i](j) {k} $l$ 100% #m & "n" ~o^\n\x1b[31m\u202e=1'


def test_labels_are_escaped_in_markdown():
    assert escape_markdown(NASTY) == (
        "a\\|b\\\\ \\*c\\* \\_d\\_ e_f \\`g\\` \\<h\\> \\[i\\](j) \\{k\\} \\$l\\$ 100% \\#m \\& "
        '"n" \\~o^ ?\\[31m?=1'
    )


def test_labels_are_escaped_in_latex():
    assert escape_latex(NASTY) == (
        r"a\textbar{}b\textbackslash{} *c* \_d\_ e\_f `g` \textless{}h\textgreater{} [i](j) \{k\} "
        r"\$l\$ 100\% \#m \& "
        '"n"'
        r" \textasciitilde{}o\textasciicircum{} ?[31m?=1"
    )


@pytest.mark.parametrize(
    ("label", "cell"),
    [(NASTY, None), ("=1+1", "'=1+1"), ("@sum", "'@sum"), ("-2,3", "'-2,3"), ('"', '"'), ("", "")],
)
def test_labels_reach_every_table_as_one_cell(tmp_path, label, cell):
    rows = (ROWS[0], ("a_x", label, {"model.d_ff": 3}, PAPER_BASE))
    report = make_report(tmp_path, rows, {"base": SCORES["base"]}, {})
    found = list(csv.reader(io.StringIO(comma_separated(report))))
    assert {len(row) for row in found} == {len(found[0])}
    assert found[2][2] == (
        " ".join(label.split()).replace("\x1b", "?").replace("\u202e", "?")
        if cell is None
        else cell
    )
    lines = [line for line in markdown(report).splitlines() if line.startswith("|")]
    pipes = {line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines}
    assert (len(lines), len(pipes)) == (4, 1)
    rows = [line for line in latex(report).splitlines() if line.endswith(r"\\{}")]
    cells = {line.replace("\\&", "").count("&") for line in rows}
    assert (len(rows), len(cells)) == (2, 1)
