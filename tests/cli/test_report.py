"""report: from a sweep's folder to its files, on the command line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxformer.cli import config
from tests.cli.test_mistakes import one_sentence
from tests.study.sweeps import make_member, write_manifest, write_metrics, write_scores

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ["report.csv", "report.json", "report.md", "report.tex"]


@pytest.fixture
def make_sweep(tmp_path, corpus):
    """Returns a function that writes a sweep over the tiny corpus."""

    def make(**data):
        settings = config.load(str(ROOT / "configs" / "plain_text.py")).to_dict()
        for side in ("source", "target"):
            for split in ("train", "valid"):
                settings["data"][f"{split}_{side}"] = str(corpus / f"{split}.{side}")
        settings["data"] |= data
        references = (corpus / "valid.target").read_text(encoding="utf-8").splitlines()
        members = []
        for row, heads in (("base", 4), ("h=2", 2), ("h=1", 1)):
            member = make_member("mine", row, 0)
            member["config"] = json.loads(json.dumps(settings))
            member["config"]["model"]["num_heads"] = heads
            members.append(member)
        for member, lines, bleu in (
            (members[0], references, 100.0),
            (members[1], [*references[:-1], "low"], None),
        ):
            from sacrebleu.metrics import BLEU

            bleu = bleu or BLEU().corpus_score(lines, [references]).score
            write_metrics(tmp_path / "sweep", member, 10_000, 6.0)
            write_scores(tmp_path / "sweep", member, sentences=14, bleu=bleu, translations=lines)
        write_manifest(tmp_path / "sweep", members, scale="")
        return tmp_path / "sweep"

    return make


def test_a_report_is_printed_and_written(make_sweep, jaxformer):
    folder = make_sweep()
    result = jaxformer("report", folder)
    assert (result.code, result.err) == (0, "")
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert result.out.startswith(text)
    written = result.out.removeprefix(text).strip().removeprefix(f"written     {folder}: ")
    names = written.split(", ")
    pictures = [
        f"{name}.{kind}" for name in ("heads", "learning_curves") for kind in ("png", "svg")
    ]
    assert sorted(names) == sorted([*FILES, *pictures])
    assert all((folder / name).is_file() for name in names)
    assert "![BLEU and perplexity against heads](heads.svg)" in text
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    # The references came from the corpus: the p-value is there.
    base, two, one = report["rows"]
    assert base["comparison"] is None
    assert two["comparison"]["p"] == two["comparison"]["p_values"]["0"] > 0
    assert two["comparison"]["bleu_difference"]["mean"] < 0
    assert (one["state"], one["comparison"]) == ("missing", None)
    (missing,) = report["unfinished"]
    assert (missing["id"], missing["why"]) == ("mine/h=1/seed=0", "not started")


def test_without_the_corpus_only_the_test_is_missing(make_sweep, jaxformer, tmp_path):
    folder = make_sweep(valid_target="/nowhere/valid.target")
    before = sorted(folder.iterdir())
    result = jaxformer("report", folder, f"--output={tmp_path / 'new' / 'out'}")
    assert (result.code, result.err) == (0, "")
    assert sorted(folder.iterdir()) == before
    assert "| not computed |" in result.out
    assert "p was not computed: The text file '/nowhere/valid.target' does not exist" in result.out
    report = json.loads((tmp_path / "new" / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["rows"][1]["comparison"]["bleu_difference"]["mean"] < 0
    assert (tmp_path / "new" / "out" / "heads.svg").is_file()


def test_translations_that_are_lost_leave_what_the_last_report_said(make_sweep, jaxformer):
    folder = make_sweep()
    assert jaxformer("report", folder).code == 0
    path = folder / "report.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"][1]["comparison"]
    for text in folder.glob("**/translations/*"):
        text.unlink()
    result = jaxformer("report", folder)
    assert f"| ({before['p']:.3f}) |" in result.out
    assert "A p in brackets, or that of one of its seeds, is an earlier report's" in result.out
    assert "of an earlier report" in (folder / "report.csv").read_text(encoding="utf-8")
    after = json.loads(path.read_text(encoding="utf-8"))["rows"][1]["comparison"]
    assert after == before | {"p_earlier": [0]}
    # Written elsewhere, it is that of the sweep's own folder.
    assert jaxformer("report", folder, f"--output={folder / 'new'}").code == 0
    there = json.loads((folder / "new" / "report.json").read_text(encoding="utf-8"))
    assert there["rows"][1]["comparison"] == after
    # What it says would be lost with it.
    path.write_text("{", encoding="utf-8")
    result = jaxformer("report", folder)
    sentence = one_sentence(result)
    assert f"{path} is not JSON" in sentence
    assert sentence.endswith("Restore this report, or remove it.")
    assert path.read_text(encoding="utf-8") == "{"
    path.unlink()
    result = jaxformer("report", folder)
    assert "p was not computed: the translations have not been kept." in result.out


def test_members_that_are_older_than_a_setting_have_its_default(make_sweep, jaxformer):
    folder = make_sweep()
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    older = manifest["members"][1]
    del older["config"]["decode"]["length_penalty"], older["config"]["parallel"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    settings = folder / older["workdir"] / "config.json"
    settings.write_text(json.dumps(older["config"]), encoding="utf-8")
    assert jaxformer("report", folder).code == 0
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["settings"] == ["model.num_heads", "model.d_k", "model.d_v"]
    assert (folder / "heads.png").is_file()


def test_settings_that_this_version_does_not_know_are_no_obstacle(make_sweep, jaxformer):
    result = jaxformer("report", make_sweep(novelty=1))
    assert result.code == 0
    assert "p was not computed: Unknown setting 'data.novelty'." in result.out


def test_what_train_and_evaluate_leave_is_read(trained, jaxformer, tmp_path):
    member = make_member("g", "base", 0)
    # Other tests may have scored it.
    scored = shutil.ignore_patterns("evaluation", "translations")
    shutil.copytree(trained[0], tmp_path / member["workdir"], ignore=scored)
    member["config"] = json.loads((trained[0] / "config.json").read_text(encoding="utf-8"))
    write_manifest(tmp_path, [member], scale="")
    result = jaxformer("report", tmp_path)
    assert (result.code, result.err) == (0, "")
    assert "- g/base, seed 0: trained, not scored" in result.out

    evaluated = jaxformer("evaluate", f"--workdir={tmp_path / member['workdir']}", "--split=valid")
    assert evaluated.code == 0
    jaxformer("report", tmp_path)
    (row,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]
    assert row["state"] == "finished"
    assert f"sacreBLEU   {row['bleu']['mean']:.2f} " in evaluated.out
    assert f"perplexity  {row['perplexity']['mean']:.3f} " in evaluated.out
    assert f"Model: {row['parameters']:,} parameters" in trained[1].out
    assert (tmp_path / "learning_curves.png").is_file()


MISTAKES = {
    "no folder": ([], "Name the folder of a sweep: jaxformer report runs/table3."),
    "no sweep": (
        ["nowhere"],
        "nowhere is not the folder of a sweep: it holds no manifest.json. Give the --workdir that "
        "`jaxformer sweep` was given.",
    ),
    "a file to write to": (
        ["sweep", "--output=sweep/manifest.json"],
        "sweep/manifest.json is a file, where --output needs a folder. Give another --output.",
    ),
    "under a file": (
        ["sweep", "--output=sweep/manifest.json/deep"],
        "'sweep/manifest.json/deep': Not a directory.",
    ),
    "an unknown option": (
        ["sweep", "--outptu=x"],
        "Unknown argument '--outptu=x'. Did you mean '--output'?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(jaxformer, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_manifest(tmp_path / "sweep", [make_member("mine", "base", 0)])
    arguments, message = MISTAKES[name]
    assert one_sentence(jaxformer("report", *arguments)) == message
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["manifest.json"]


def test_a_damaged_record_is_named_and_nothing_is_written(make_sweep, jaxformer):
    folder = make_sweep()
    path = folder / "mine" / "base" / "seed=0" / "evaluation" / "valid.json"
    path.write_text('{"bleu"', encoding="utf-8")
    message = one_sentence(jaxformer("report", folder))
    assert message.startswith(f"{path} is not JSON (")
    assert message.endswith("Restore it, or move it away.")
    assert not (folder / "report.md").exists()


def test_help_says_what_is_written(jaxformer):
    result = jaxformer("report", "--help")
    assert (result.code, result.err) == (0, "")
    assert "usage: jaxformer report" in result.out
    assert all(name in result.out for name in ("--output", *FILES))


def test_help_and_mistakes_import_nothing_that_is_slow(tmp_path):
    script = (
        "import sys; from jaxformer.cli.main import main; "
        "codes = [main(['report', '--help']), main(['report', 'nowhere'])]; "
        "slow = {'jax', 'numpy', 'matplotlib', 'sacrebleu'} & set(sys.modules); "
        "sys.exit(repr((codes, slow)) if slow or codes != [0, 2] else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
