"""train, evaluate, translate: the commands a user types, end to end on a tiny corpus."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxformer.model import parameter_count

ROOT = Path(__file__).resolve().parent.parent.parent


def test_training_leaves_its_records(trained, corpus):
    workdir, _ = trained
    config = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    assert config["model"]["d_model"] == 16
    assert config["data"]["train_source"] == str(corpus / "train.source")
    (start,) = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["starts"]
    assert start["argv"][:2] == ["jaxformer", "train"]
    assert start["overrides"]["model.d_ff"] == 24
    assert start["seeds"] == {"train": 0}
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["120", "180", "60"]


def test_metrics_have_a_line_each_interval_and_the_loss_falls(trained):
    workdir, _ = trained
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_bytes().splitlines()]
    assert [row["step"] for row in rows] == [30, 60, 90, 120, 150, 180]
    assert ["valid_nll" in row for row in rows] == [False, False, True, False, False, True]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["valid_nll"] < rows[2]["valid_nll"]
    # Smoothing adds to the loss what perplexity leaves out.
    assert all(row["nll"] != row["loss"] for row in rows)
    assert all(0 < row["target_tokens"] <= 30 * 320 for row in rows)


def test_training_says_what_it_does_in_plain_lines(trained):
    _, result = trained
    assert result.err == ""
    # 291 rows of the shared matrix, not the 294 that there are.
    count = parameter_count(
        vocab_size=291,
        d_model=16,
        d_ff=24,
        num_heads=2,
        d_k=8,
        d_v=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        final_norm=True,
    )
    assert f"Model: {count:,} parameters, 291 word pieces." in result.out
    assert "240 training pairs, 14 of validation; 0 training pairs left out" in result.out
    assert re.search(r"Batches: \d+ an epoch, of shapes \d+ x \(\d+ \+ \d+\), \d+ x \(", result.out)
    assert re.search(r"Device(: cpu|s: \d+ cpu, data \d+ x fsdp 1 x tensor 1)\.", result.out)
    lines = [line for line in result.out.splitlines() if line.startswith("step ")]
    assert len(lines) == 6
    assert re.fullmatch(
        r"step 90/180  loss \d\.\d{4}  rate \d\.\d\de-\d\d  source [\d,]+/s  target [\d,]+/s  "
        r"padding \d+\.\d%  left \d+:\d\d  valid nll \d\.\d{4}  perplexity \d+\.\d\d",
        lines[2],
    )
    assert "\x1b" not in result.out


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((1, 1, 1), "Device: card 0. "),
        ((3, 1, 2), "Devices: 6 card 0, data 3 x fsdp 1 x tensor 2. "),
    ],
)
def test_training_names_the_devices_that_it_uses(monkeypatch, sizes, said):
    from jaxformer.cli import start
    from jaxformer.model import Transformer

    cards = [SimpleNamespace(device_kind=f"card {number}") for number in range(math.prod(sizes))]
    mesh = SimpleNamespace(
        devices=SimpleNamespace(flat=cards),
        size=len(cards),
        shape=dict(zip(("data", "fsdp", "tensor"), sizes, strict=True)),
    )
    monkeypatch.setattr(start, "count_parameters", lambda model: 7)
    assert said in start._describe_model(Transformer(vocab_size=10), mesh, "malloc")


def test_the_allocator_is_recorded_as_it_is_said(trained):
    workdir, result = trained
    (start,) = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["starts"]
    assert f"Allocator: {start['allocator']}.\n" in result.out


def test_pairs_too_long_to_train_on_are_counted(tiny, jaxformer, tmp_path):
    result = jaxformer(
        *tiny,
        f"--workdir={tmp_path / 'run'}",
        "--config.data.max_length=12",
        "--config.train.num_steps=1",
        "--config.train.eval_every=0",
    )
    assert result.code == 0
    found = re.search(r"([\d,]+) training pairs, .* ([\d,]+) training pairs left out", result.out)
    kept, left_out = int(found[1]), int(found[2])
    assert kept + left_out == 240
    assert left_out >= 6


def test_evaluation_scores_every_sentence(trained, jaxformer, corpus):
    workdir, _ = trained
    result = jaxformer(
        "evaluate", f"--workdir={workdir}", "--split=test", "--protocol=multi_bleu_lc"
    )
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^sacreBLEU +\d+\.\d\d +nrefs:1\|case:mixed\|.*version:", result.out, re.M)
    assert re.search(r"^chrF +\d+\.\d\d", result.out, re.M)
    assert re.search(r"^perplexity +\d+\.\d{3}", result.out, re.M)
    assert re.search(r"^sentences +15 of test$", result.out, re.M)
    assert re.search(r"^time +\d+:\d\d", result.out, re.M)
    assert re.search(r"^checkpoints 180, 120, averaged$", result.out, re.M)
    lines = (workdir / "translations" / "test.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 15
    record = json.loads((workdir / "evaluation" / "test.json").read_text(encoding="utf-8"))
    assert record["sentences"] == 15
    assert record["checkpoints"] == [180, 120]
    assert record["length_penalty"] == "jaxformer.decode.penalty:gnmt_penalty"
    assert f"{record['bleu']:.2f}" in result.out

    from sacrebleu.metrics import BLEU

    references = (corpus / "test.target").read_text(encoding="utf-8").splitlines()
    assert record["bleu"] == BLEU().corpus_score(lines, [references]).score
    # Words of letters only: every way of dividing them into tokens is the same.
    unsmoothed = BLEU(smooth_method="none").corpus_score(lines, [references]).score
    assert record["published_protocol"]["bleu"] == pytest.approx(unsmoothed)
    assert f"BLEU        {unsmoothed:.2f}  multi_bleu_lc: letters small" in result.out
    assert f"Model: {record['parameters']:,} parameters" in trained[1].out


def test_perplexity_is_that_of_training_when_one_checkpoint_is_evaluated(trained, jaxformer):
    workdir, _ = trained
    result = jaxformer(
        "evaluate",
        f"--workdir={workdir}",
        "--split=valid",
        "--config.decode.average=1",
        "--num_beams=1",
        "--length_penalty=jaxformer.decode:length_normalisation",
    )
    assert result.code == 0
    record = json.loads((workdir / "evaluation" / "valid.json").read_text(encoding="utf-8"))
    last = json.loads((workdir / "metrics.jsonl").read_bytes().splitlines()[-1])
    assert record["nll"] == pytest.approx(last["valid_nll"], rel=1e-6)
    assert (record["num_beams"], record["checkpoints"]) == (1, [180])
    assert record["length_penalty"] == "jaxformer.decode:length_normalisation"


@pytest.fixture
def moved(trained, tmp_path):
    """Returns a copy of the workdir, older than a setting, on a machine that lacks the corpus."""
    workdir = tmp_path / "moved"
    shutil.copytree(trained[0], workdir)
    path = workdir / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for split in ("train", "valid", "test"):
        config["data"].update({f"{split}_{side}": "/gone/x" for side in ("source", "target")})
    del config["decode"]["length_penalty"]
    path.write_text(json.dumps(config), encoding="utf-8")
    return workdir


def test_an_evaluation_needs_the_files_of_its_split_only(moved, jaxformer, corpus):
    files = [
        f"--config.data.test_{side}={corpus / f'test.{side}'}" for side in ("source", "target")
    ]
    result = jaxformer("evaluate", f"--workdir={moved}", "--num_beams=1", *files)
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^sentences +15 of test$", result.out, re.M)
    result = jaxformer("evaluate", f"--workdir={moved}")
    assert result.err == "jaxformer: The text file '/gone/x' does not exist; check its path.\n"


def test_without_a_test_split_the_valid_one_is_scored(moved, jaxformer, corpus):
    files = [
        f"--config.data.valid_{side}={corpus / f'valid.{side}'}" for side in ("source", "target")
    ]
    none = ["--config.data.test_source=", "--config.data.test_target="]
    command = ["evaluate", f"--workdir={moved}", "--num_beams=1", *files, *none]
    result = jaxformer(*command)
    assert (result.code, result.err) == (0, "")
    assert re.search(
        r"^sentences +14 of valid, since the corpus has no test split$", result.out, re.M
    )
    assert json.loads((moved / "evaluation" / "valid.json").read_bytes())["split"] == "valid"
    result = jaxformer(*command, "--split=test")
    assert result.err == (
        "jaxformer: Corpus 'plain_text' has no split 'test'; it has train, valid.\n"
    )


@pytest.fixture(scope="module")
def translated(trained, jaxformer):
    """Returns translations of single lines, each made on its own."""
    workdir, _ = trained

    def of(line):
        return jaxformer("translate", f"--workdir={workdir}", stdin=line.encode()).out

    return {line: of(line) for line in ("an bee", "low kin jam", "go go in")}


def test_translations_are_in_order_and_blank_lines_are_kept(trained, jaxformer, translated):
    workdir, _ = trained
    lines = ["", "an bee", "low kin jam", "", "  \t", "go go in", "an bee"]
    expected = "".join(translated.get(line, "\n") for line in lines)
    assert len(set(translated.values())) == 3
    for end in ("\n", "\r\n"):
        text = end.join(lines).encode()
        result = jaxformer("translate", f"--workdir={workdir}", stdin=text)
        assert (result.code, result.err, result.out) == (0, "", expected)


def test_a_byte_order_mark_is_no_text(trained, jaxformer, translated):
    workdir, _ = trained
    result = jaxformer("translate", f"--workdir={workdir}", stdin=b"\xef\xbb\xbfan bee\n")
    assert result.out == translated["an bee"]


def test_as_many_lines_come_out_as_go_in(trained, jaxformer):
    workdir, _ = trained
    lines = [
        "an bee " * 300,
        "\u2028 one \x0b line \x0c\x85",
        "\U0001f600\U0001f600",
        "\x00",
        "مرحبا بالعالم",
        "an\u2581bee",
    ]
    text = "\n".join(lines).encode()
    result = jaxformer("translate", f"--workdir={workdir}", "--num_beams=1", stdin=text)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("\n") == len(lines)
    # Cut into pieces, each of which has words.
    assert len(result.out.split("\n")[0].split()) > 4


def test_no_input_gives_no_output(trained, jaxformer):
    workdir, _ = trained
    result = jaxformer("translate", f"--workdir={workdir}")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_files_in_and_out_from_another_folder(trained, jaxformer, translated, monkeypatch):
    workdir, _ = trained
    monkeypatch.chdir(workdir.parent)
    Path("news").write_text("an bee\n\ngo go in\n", encoding="utf-8")
    # The input itself may be replaced.
    result = jaxformer("translate", "--workdir=trained", "--input=news", "--output=news")
    assert (result.code, result.out) == (0, "")
    expected = translated["an bee"] + "\n" + translated["go go in"]
    assert Path("news").read_text(encoding="utf-8") == expected
    assert {path.name for path in Path().iterdir()} == {"trained", "news"}


def test_a_failed_translation_leaves_the_output_file_alone(trained, jaxformer, tmp_path):
    workdir, _ = trained
    output = tmp_path / "out"
    output.write_text("before", encoding="utf-8")
    result = jaxformer(
        "translate", f"--workdir={workdir}", f"--output={output}", stdin=b"an\nbee \xff\n"
    )
    assert result.code == 2
    assert result.err == (
        "jaxformer: Line 2 of the input is not UTF-8 (invalid start byte). Convert it to UTF-8.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert output.read_text(encoding="utf-8") == "before"


def test_more_lines_than_are_translated_at_once(trained, jaxformer, translated, monkeypatch):
    monkeypatch.setattr("jaxformer.cli.translate._LINES_AT_ONCE", 2)
    workdir, _ = trained
    text = b"an bee\n\nlow kin jam\ngo go in\nan bee\n"
    result = jaxformer("translate", f"--workdir={workdir}", stdin=text)
    expected = [translated[line] if line else "\n" for line in text.decode().splitlines()]
    assert result.out == "".join(expected)


def test_a_closed_pipe_is_silent(trained, tmp_path):
    workdir, _ = trained
    (tmp_path / "lines").write_text("an bee\n" * 3000, encoding="utf-8")
    command = (
        f"{sys.executable} -m jaxformer translate --workdir={workdir} --num_beams=1 "
        f"--input={tmp_path / 'lines'}; echo code $? >&2"
    )
    done = subprocess.run(
        ["bash", "-c", f"({command}) | head -n 1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == "code 141\n"
