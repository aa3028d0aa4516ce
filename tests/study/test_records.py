import json
import math
import re
from pathlib import Path

import pytest

from jaxformer.study.records import flatten, read_sweep
from tests.study.sweeps import (
    PAPER_BASE,
    SENTENCES,
    STEPS,
    make_member,
    make_references,
    write_manifest,
    write_metrics,
    write_scores,
)


def test_a_finished_member_has_its_scores(tmp_path):
    member = make_member("base", "base", 7, paper=PAPER_BASE)
    write_manifest(tmp_path / "table3", [member])
    write_metrics(tmp_path / "table3", member, STEPS, 6.0)
    write_scores(tmp_path / "table3", member, bleu=31.5, translations=make_references())
    sweep = read_sweep(tmp_path / "table3")
    assert (sweep.name, sweep.scale, sweep.split) == ("table3", "laptop", "valid")
    (found,) = sweep.members
    assert (found.id, found.group, found.row, found.seed) == ("base/base/seed=7", "base", "base", 7)
    assert (found.state, found.why) == ("finished", "")
    assert found.paper == PAPER_BASE
    assert found.config == member["config"]
    assert (found.scores.bleu, found.scores.perplexity) == (31.5, 6.0)
    assert (found.scores.sentences, found.scores.parameters) == (SENTENCES, 2_570_000)
    assert found.scores.decoding == (
        "beam 4, length penalty 0.6 (length_normalisation), average of 2 checkpoints"
    )
    assert list(found.scores.translations) == make_references()
    assert [step for step, _ in found.curve] == list(range(250, STEPS + 1, 250))
    assert found.curve[0][1] > found.curve[-1][1] > 6.0


def stop(folder, member, where):
    """Leaves what a member has left there."""
    if where == "not started":
        return
    write_metrics(folder, member, {"started": 0, "training": 1500}.get(where, STEPS), 6.0)
    if where == "scored too early":
        write_scores(folder, member, checkpoints=[1500, 1000])


STATES = {
    "not started": ("missing", "not started"),
    "started": ("unfinished", "started, without a line of metrics yet"),
    "training": ("unfinished", "at step 1,500 of 3,000"),
    "trained": ("unfinished", "trained, not scored"),
    "scored too early": ("unfinished", "scored at step 1,500 of 3,000"),
}


@pytest.mark.parametrize("where", STATES)
def test_a_member_that_is_not_finished_says_where_it_stands(tmp_path, where):
    member = make_member("base", "base", 0)
    write_manifest(tmp_path, [member])
    stop(tmp_path, member, where)
    (found,) = read_sweep(tmp_path).members
    assert (found.state, found.why) == STATES[where]
    assert found.scores is None
    assert found.paper == {}


def test_a_record_may_lack_what_is_newer_and_translations_and_hold_infinities(tmp_path):
    member = make_member("base", "base", 0)
    write_manifest(tmp_path, [member])
    write_scores(tmp_path, member, parameters=3, perplexity="inf", checkpoints=[STEPS])
    path = tmp_path / member["workdir"] / "evaluation" / "valid.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["parameters"], record["length_penalty"]
    path.write_text(json.dumps(record), encoding="utf-8")
    (found,) = read_sweep(tmp_path).members
    assert found.scores.perplexity == math.inf
    assert (found.scores.parameters, found.scores.translations) == (None, None)
    assert found.scores.decoding == "beam 4, length penalty 0.6 (gnmt_penalty), one checkpoint"
    assert found.curve == ()


def test_the_last_line_of_metrics_may_be_torn(tmp_path):
    member = make_member("base", "base", 0)
    write_manifest(tmp_path, [member])
    write_metrics(tmp_path, member, 100, 6.0)
    with open(tmp_path / member["workdir"] / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 150, "lo')
    assert read_sweep(tmp_path).members[0].why == "at step 100 of 3,000"


def edit(change):
    """Returns a function that changes one file's JSON."""

    def damage(path):
        value = json.loads(path.read_text(encoding="utf-8"))
        change(value)
        path.write_text(json.dumps(value), encoding="utf-8")

    return damage


def drop_a_line(path):
    path.write_bytes(path.read_bytes().partition(b"\n")[2])


WORKDIR = "base/base/seed=0"
SCORES = f"{WORKDIR}/evaluation/valid.json"
MANIFEST = "manifest.json, member 1"
DAMAGES = {
    "manifest, no JSON": ("manifest.json", lambda path: path.write_text("{"), "is not JSON"),
    "manifest, a list": ("manifest.json", lambda path: path.write_text("[1]"), "JSON list, not an"),
    "manifest, version": (
        "manifest.json",
        edit(lambda it: it.update(version=2)),
        "is of version 2, expected 1. Use the jaxformer that wrote it.",
    ),
    "manifest, no members": (
        "manifest.json",
        edit(lambda it: it.update(members=[])),
        "names no members. Make it again with `jaxformer sweep`.",
    ),
    "manifest, scale": (
        "manifest.json",
        edit(lambda it: it.pop("scale")),
        "manifest.json: `scale` is missing, expected text. Restore the file.",
    ),
    "manifest, a member of no kind": (
        "manifest.json",
        edit(lambda it: it.update(members=[3])),
        f"{MANIFEST} is no object.",
    ),
    "manifest, seed": (
        "manifest.json",
        edit(lambda it: it["members"][0].update(seed=True)),
        f"{MANIFEST}: `seed` is True, expected a whole number.",
    ),
    "manifest, paper": (
        "manifest.json",
        edit(lambda it: it["members"][0].update(paper={"bleu": "high"})),
        f"{MANIFEST}, `paper`: `bleu` is 'high', expected a number.",
    ),
    "manifest, no steps": (
        "manifest.json",
        edit(lambda it: it["members"][0]["config"]["train"].pop("num_steps")),
        f"{MANIFEST}: `num_steps` is missing, expected a whole number.",
    ),
    "manifest, a seed twice": (
        "manifest.json",
        edit(lambda it: it["members"].append(it["members"][0])),
        "manifest.json, member 2: row 'base' of base has seed 0 twice.",
    ),
    "scores, protocol": (
        SCORES,
        edit(lambda it: it.update(published_protocol={"protocol": "paper", "bleu": "high"})),
        "valid.json: `bleu` is 'high', expected a number.",
    ),
    "config": (f"{WORKDIR}/config.json", lambda path: path.write_text("{"), "is not JSON"),
    "config, of another run": (
        f"{WORKDIR}/config.json",
        edit(lambda it: it["model"].update(d_ff=512)),
        "config.json has model.d_ff=512, where ",
    ),
    "metrics": (
        f"{WORKDIR}/metrics.jsonl",
        lambda path: path.write_bytes(b"{\n" + path.read_bytes()),
        "Line 1 of ",
    ),
    "metrics, perplexity": (
        f"{WORKDIR}/metrics.jsonl",
        lambda path: path.write_text('{"step": 3, "valid_perplexity": "low"}\n'),
        "metrics.jsonl, step 3: `valid_perplexity` is 'low', expected a number.",
    ),
    "scores, no JSON": (SCORES, lambda path: path.write_bytes(b"\xff"), "is not JSON"),
    "scores, BLEU": (
        SCORES,
        edit(lambda it: it.pop("bleu")),
        "valid.json: `bleu` is missing, expected a number. Restore the file.",
    ),
    "scores, parameters": (
        SCORES,
        edit(lambda it: it.update(parameters=2.5)),
        "valid.json: `parameters` is 2.5, expected a whole number.",
    ),
    "scores, no checkpoints": (
        SCORES,
        edit(lambda it: it.update(checkpoints=[])),
        "valid.json: `checkpoints` is [], expected steps. Evaluate the run again.",
    ),
    "translations, not UTF-8": (
        f"{WORKDIR}/translations/valid.txt",
        lambda path: path.write_bytes(b"\xff\n"),
        "valid.txt is not UTF-8 (invalid start byte). Evaluate the run again.",
    ),
    "translations, too few": (
        f"{WORKDIR}/translations/valid.txt",
        drop_a_line,
        "valid.txt has 39 lines, where the scores beside it are of 40 sentences.",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_told_by_its_name(tmp_path, name):
    member = make_member("base", "base", 0, paper=PAPER_BASE)
    write_manifest(tmp_path, [member])
    write_metrics(tmp_path, member, STEPS, 6.0)
    write_scores(tmp_path, member, translations=make_references())
    read_sweep(tmp_path)
    file, damage, message = DAMAGES[name]
    damage(tmp_path / file)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        read_sweep(tmp_path)
    assert Path(file).name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_how_often_a_run_is_written_down_may_differ(tmp_path):
    member = make_member("base", "base", 0)
    write_manifest(tmp_path, [member])
    write_metrics(tmp_path, member, STEPS, 6.0)
    path = tmp_path / WORKDIR / "config.json"
    edit(lambda it: it["train"].update(log_every=1))(path)
    edit(lambda it: it["data"].update(corpus="elsewhere"))(path)
    assert read_sweep(tmp_path).members[0].why == "trained, not scored"


def test_settings_are_flattened():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
