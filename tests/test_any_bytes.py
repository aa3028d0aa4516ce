"""Whatever a file holds: reading it works, or ends in one sentence; there is no third way."""

import dataclasses
import gzip
import io
import json
import runpy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxformer.cli import translate
from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.cli.trained import read_settings
from jaxformer.data.moses_bpe import MosesBpe, train_moses_bpe
from jaxformer.data.plain_text import read_lines
from jaxformer.data.sentence_piece import SentencePiece, train_sentence_piece
from jaxformer.io.digest import SUMS, find_fault, write_sums
from jaxformer.io.record import Metrics, check_config, read_metrics, write_run
from jaxformer.run.preparation import load_tokenizer
from jaxformer.study import manifest as manifest_lib
from jaxformer.study.records import read_sweep
from jaxformer.study.rows import make_rows
from jaxformer.study.standing import last_step, read_scores
from tests.damage import damaged, damaged_json
from tests.study import sweeps

BASE = Path(__file__).resolve().parent.parent / "configs" / "base.py"
CONFIG = runpy.run_path(str(BASE))["get_config"]().to_dict()
TEXT = "Ein Haus.\r\nZwei Häuser.\n\n\ufeff\u2028 weiße\0 Männer\n".encode() * 3
PAIRS = [("A dog walks.", "Ein Hund geht."), ("Two dogs run.", "Zwei Hunde laufen.")] * 3
ROWS = [
    manifest_lib.Row("g", name, {}, {"bleu": 27.3}, {"train": {"num_steps": sweeps.STEPS}}, [])
    for name in ("base", "x")
]
MEMBER = "base/base/seed=0"


def text(path):
    read_lines(path, path.read_bytes())


def news(path):
    list(translate.read_lines(io.BytesIO(path.read_bytes())))


def config(path):
    found = read_settings(path.parent, [])
    found["train"]["keep_checkpoints"] = CONFIG["train"]["keep_checkpoints"]
    check_config(path.parent, found, ["*"])


def metrics(path):
    read_metrics(path)
    with Metrics(path, 20) as file:
        file.write({"step": 21})
    assert read_metrics(path)[-1] == {"step": 21}


def run(path):
    write_run(path.parent, argv=["x"], overrides={}, seeds={"train": 1}, allocator="glibc")
    assert json.loads(path.read_bytes())["starts"][-1]["argv"] == ["x"]


def manifest(path):
    now = manifest_lib.Manifest("laptop", manifest_lib.expand(ROWS, [1, 2], "w"))
    before = manifest_lib.read_manifest(path.parent)
    manifest_lib.write_manifest(path.parent, manifest_lib.extend(before, now))


def sweep(path):
    folder = next(above for above in path.parents if (above / "manifest.json").exists())
    (member, *_) = manifest_lib.expand(ROWS, [0], "w")
    scores = read_scores(folder, dataclasses.replace(member, workdir=MEMBER))
    if scores is not None:
        f"{scores['bleu']:.2f} {scores['perplexity']:.3f}"
    assert last_step(folder, dataclasses.replace(member, workdir=MEMBER)) >= 0
    make_rows(read_sweep(folder).members)


def moses(path):
    tokenizer = MosesBpe.load(path)
    for side in ("source", "target"):
        (ids,) = tokenizer.encode(["Two dogs, ünd\0 more."], side)
        tokenizer.decode(ids)


def sums(path):
    fault = find_fault(path.parent)
    assert fault is None or "\n" not in fault


# Of each kind of file: its name, and what reads it.
READERS = {
    "text": ("train.de", text),
    "gzip": ("train.de.gz", text),
    "news": ("news.de", news),
    "config": ("config.json", config),
    "metrics": ("metrics.jsonl", metrics),
    "run": ("run.json", run),
    "manifest": ("manifest.json", manifest),
    "sweep": ("sweep/manifest.json", sweep),
    "sweep's scores": (f"sweep/{MEMBER}/evaluation/valid.json", sweep),
    "sweep's metrics": (f"sweep/{MEMBER}/metrics.jsonl", sweep),
    "sweep's settings": (f"sweep/{MEMBER}/config.json", sweep),
    "Moses's vocabulary": ("tokenizer/moses_bpe.json", moses),
    "vocabulary": ("tokenizer/sentencepiece.model", None),
    "sums": (SUMS, sums),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder that holds a good file of each kind."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "train.de").write_bytes(TEXT)
    (folder / "news.de").write_bytes(TEXT)
    (folder / "train.de.gz").write_bytes(gzip.compress(TEXT))
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    rows = [{"step": step, "loss": 1 / step, "rate": "nan"} for step in (10, 20, 30)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    run(folder / "run.json")
    members = manifest_lib.expand(ROWS, [0, 1], "w")
    manifest_lib.write_manifest(folder, manifest_lib.Manifest("laptop", members))
    member = sweeps.make_member("base", "base", 0, paper={"bleu": 27.3})
    sweeps.write_manifest(folder / "sweep", [member])
    sweeps.write_metrics(folder / "sweep", member, sweeps.STEPS, 6.0)
    sweeps.write_scores(folder / "sweep", member, translations=sweeps.make_references())
    train_moses_bpe(PAIRS, 9, source="en", target="de").save(folder / "tokenizer")
    train_sentence_piece([TEXT.decode()], 290).save(folder / "tokenizer")
    write_sums(folder)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _quick():
    """Leaves out what a start asks git about."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("package_source", "repository"):
            patch.setattr(f"jaxformer.io.environment.{name}", lambda *folder: None)
        yield


def answer_of(folder, kind, good):
    """Reads a file as a command does; returns its sentence, if any. A fault is raised."""
    name, read = READERS[kind]
    try:
        with mistakes():
            if kind == "vocabulary":
                load_tokenizer(folder, SentencePiece(good).fingerprint)
            else:
                read(folder / name)
    except Mistake as mistake:
        return str(mistake)
    return None


def check_damaged(folder, kind, data):
    path = folder / READERS[kind][0]
    good = path.read_bytes()
    damage = damaged(good)
    if path.suffix == ".json":
        damage |= damaged_json(good)
    path.write_bytes(data.draw(damage))
    try:
        answer = answer_of(folder, kind, good)
    finally:
        path.write_bytes(good)
    assert answer is None or (len(answer) > 15 and "\n" not in answer)


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_a_damaged_file_is_read_or_told(folder, kind, data):
    check_damaged(folder, kind, data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_many_damaged_files_are_read_or_told(folder, kind, data):
    check_damaged(folder, kind, data)


@pytest.mark.parametrize("kind", READERS)
def test_a_good_file_is_read(folder, kind):
    path = folder / READERS[kind][0]
    good = path.read_bytes()
    assert answer_of(folder, kind, good) is None
    path.write_bytes(good)
