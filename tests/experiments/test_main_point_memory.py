"""experiments/main_point_memory.py on a few verses and a tiny encoder."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.encoders import write_encoder

pytest.importorskip("milvus_lite", reason="needs jaxformer[memory]")

SCRIPT = Path(__file__).resolve().parent.parent.parent / "experiments" / "main_point_memory.py"
WORDS = ["the", "lord", "is", "my", "shepherd", "sheep", "sheepfold", "and"]


def verses(version):
    """Two chapters of seven verses; one version leaves the last word out, and one verse."""
    rng = np.random.default_rng(0)
    found = {}
    for id in [40000000 + 1000 * chapter + verse for chapter in (1, 2) for verse in range(1, 8)]:
        text = rng.choice(WORDS, 9).tolist()
        found[id] = " ".join(text if version == "web" else text[:8]) + "."
    if version == "kjv":
        del found[40002003]
    return found


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Returns run(), which gives the record and what was printed."""
    encoder = write_encoder(tmp_path / "encoder")
    monkeypatch.setattr("jaxformer.data.bible.read_version", verses)
    monkeypatch.setattr(
        sys, "argv",
        [
            "main_point_memory.py", f"--scratch={tmp_path / 'scratch'}", "--queries=12",
            f"--output={tmp_path / 'output'}", f"--encoder={encoder}",
        ],
    )  # fmt: skip

    def once():
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        printed = capsys.readouterr()
        assert end.value.code == 0, printed.err
        path = tmp_path / "output" / "results.json"
        return json.loads(path.read_text(encoding="utf-8")), printed

    return once


def test_every_form_is_measured_and_a_second_run_goes_on(run, tmp_path):
    record, printed = run()
    verse_rows, run_rows = (record[kind]["rows"] for kind in ("verses", "runs of five verses"))
    assert (record["verses"]["passages"], record["verses"]["queries"]) == (14, 12)
    assert record["runs of five verses"]["passages"] == 4
    # Whole; two layers, rollout, TF-IDF and random in context; the last layer, TF-IDF and random
    # read again; each at two shares.
    assert len(verse_rows) == len(run_rows) == 1 + 2 * 5 + 2 * 3
    forms = {(row["form"], row["words"], row["share"]) for row in verse_rows}
    assert {("whole", "", 1.0), ("in context", "layer 1", 0.5)} <= forms
    assert {("read again", "TF-IDF", 0.25), ("read again", "layer 2", 0.25)} <= forms
    whole, *others = verse_rows
    assert whole["figures"]["whole"]["recall@1"]["mean"] > 0.5
    for row in others:
        assert row["text_bytes"] < whole["text_bytes"]
        assert row["vector_bytes"] == whole["vector_bytes"] == 14 * 15 * 4
        mrr = row["figures"]["whole"]["mrr"]
        assert mrr["less whole"]["mean"] == pytest.approx(
            mrr["mean"] - whole["figures"]["whole"]["mrr"]["mean"]
        )
        assert ("less random" in mrr) == (row["words"] not in ("random", "TF-IDF"))
    assert (tmp_path / "output" / "recall.png").read_bytes().startswith(b"\x89PNG")
    assert printed.out.count("| whole | all | 100% |") == 4
    written = (tmp_path / "output" / "results.md").read_text(encoding="utf-8")
    assert "rollout" in written
    _, _, header, _, line = written.splitlines()[:5]
    names, found = ([cell.strip() for cell in row.split("|")] for row in (header, line))
    cells = dict(zip(names, found, strict=True))
    assert cells["bytes on disk"] == f"{whole['disk_bytes'] / 14:,.0f}"
    assert cells["to index, s"] == f"{whole['index_cpu_seconds']:.2f}"
    assert cells["a query, ms"] == f"{1000 * whole['query_cpu_seconds']:.1f}"

    again, printed = run()
    assert again["verses"]["rows"] == verse_rows
    assert "_context.npz" not in printed.err


def test_the_table_of_the_records_is_that_of_its_figures():
    folder = SCRIPT.parent / "results" / "main_point_memory"
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    table = runpy.run_path(str(SCRIPT))["table"](record)
    assert (folder / "results.md").read_text(encoding="utf-8") == table
