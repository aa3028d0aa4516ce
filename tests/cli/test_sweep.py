"""sweep: from config files and values to a manifest, and what it says while members run."""

import functools
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxformer.cli import sweep as command
from jaxformer.run.progress import Progress
from jaxformer.study import local
from jaxformer.study.local import run_local
from jaxformer.study.manifest import read_manifest

ROOT = Path(__file__).resolve().parent.parent.parent
FAKE = (sys.executable, str(ROOT / "tests" / "study" / "fake_program.py"))
TABLE_3 = sorted(map(str, (ROOT / "configs" / "table3").glob("*.py")))

# A file of rows that any settings would do for.
ROWS = """
import runpy
ROWS = {{"base": {{"tiny": {{}}}}, "d_ff=24, or so": {{"tiny": {{"model.d_ff": 24}}}}}}
PAPER = {{"base": {{"bleu": 20.0}}, "d_ff=24, or so": {{}}}}
def get_config(arg):
    config = runpy.run_path({base!r})["get_config"]()
    scale, _, label = arg.partition("/")
    config.update_from_flattened_dict(ROWS[label][scale])
    return config
"""


@pytest.fixture
def rows(tmp_path):
    """Returns a config file with two rows of one scale."""
    path = tmp_path / "mine.py"
    base = str(ROOT / "configs" / "quickstart.py")
    path.write_text(ROWS.format(base=base), encoding="utf-8")
    return path


@pytest.fixture
def fake(monkeypatch):
    """Lets members run in no time."""
    monkeypatch.setattr(local, "_SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(command, "run_local", functools.partial(run_local, program=FAKE))


def members_of(folder):
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return {member["id"]: member for member in manifest["members"]}


def lines_of(result):
    """Returns what was printed, with T for times."""
    return re.sub(r"\b\d+:\d\d\b", "T", result.out).splitlines()


def behave(folder, **words):
    behaviour = {f"mine/{label}/seed=0": word for label, word in words.items()}
    (folder / "behaviour.json").write_text(json.dumps(behaviour), encoding="utf-8")


def test_table_3_is_a_manifest_in_the_papers_order(jaxformer, tmp_path):
    folder = tmp_path / "t"
    # As a shell sorts them.
    argv = ["sweep", *TABLE_3, "--scale=laptop", "--seeds=2", f"--workdir={folder}", "--print"]
    result = jaxformer(*argv, "--config.train.num_steps=7")
    assert (result.code, result.err) == (0, "")
    members = list(members_of(folder).values())
    assert len(members) == 2 * 21
    assert [member["seed"] for member in members] == [0] * 21 + [1] * 21
    groups = list(dict.fromkeys(member["group"] for member in members))
    assert groups == [
        "base", "a_heads", "b_key_size", "c_size", "d_regularisation", "e_positions", "big",
    ]  # fmt: skip
    assert members[0]["id"] == "base/base/seed=0"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert (manifest["version"], manifest["scale"], manifest["split"]) == (1, "laptop", "valid")

    member = members_of(folder)["b_key_size/d_k=16/seed=1"]
    spec = f"{ROOT / 'configs' / 'table3' / 'b_key_size.py'}:laptop/d_k=16"
    place = f"{folder}/b_key_size/d_k=16/seed=1"
    assert (member["row"], member["overrides"]) == ("d_k=16", {"model.d_k": 8})
    assert member["paper"] == {"perplexity": 5.16, "bleu": 25.1, "parameters": 58e6}
    assert member["config"]["model"]["d_k"] == 8
    assert member["config"]["train"]["seed"] == 1
    assert member["config"]["train"]["num_steps"] == 7
    assert member["argv"] == [
        "jaxformer",
        "train",
        f"--config={spec}",
        "--config.train.num_steps=7",
        "--config.train.seed=1",
        f"--workdir={place}",
    ]
    assert member["evaluate"] == ["jaxformer", "evaluate", f"--workdir={place}", "--split=valid"]
    # A row that the paper does not have.
    assert members_of(folder)["d_regularisation/dropout=0.3/seed=0"]["paper"] is None

    # The commands are those of the manifest, in its order.
    assert [shlex.split(line) for line in result.out.splitlines()] == [
        [*member["argv"], "&&", *member["evaluate"]] for member in members
    ]
    assert (
        jaxformer(*argv, "--config.train.num_steps=7", "--only=*/h=1/seed=1").out.count("\n") == 1
    )


def test_the_papers_scale_leaves_a_laptops_own_rows_out(jaxformer, tmp_path):
    argv = ["sweep", *TABLE_3, "--scale=paper", f"--workdir={tmp_path}", "--print"]
    assert jaxformer(*argv).out.count("\n") == 20


def test_commands_are_quoted_for_a_shell(jaxformer, rows, tmp_path):
    folder = tmp_path / "my sweep"
    result = jaxformer("sweep", str(rows), f"--workdir={folder}", "--print")
    assert result.code == 0
    second = result.out.splitlines()[1]
    name = members_of(folder).keys() - {"mine/base/seed=0"}
    printed = subprocess.run(
        ["sh", "-c", f"jaxformer() {{ printf '%s\\n' \"$@\"; }}; {second}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.splitlines() == [
        "train",
        f"--config={rows}:tiny/d_ff=24, or so",
        "--config.train.seed=0",
        f"--workdir={folder}/{next(iter(name))}",
        "evaluate",
        f"--workdir={folder}/{next(iter(name))}",
        "--split=valid",
    ]


def test_what_a_manifest_says_is_not_run(jaxformer, rows, tmp_path, fake):
    folder = tmp_path / "t"
    argv = ["sweep", str(rows), f"--workdir={folder}"]
    assert jaxformer(*argv, "--print").code == 0
    path = folder / "manifest.json"
    tree = json.loads(path.read_bytes())
    strange = {"argv": ["jaxformer", "evil"], "evaluate": ["evil"], "workdir": "../evil"}
    for member in tree["members"]:
        member.update(strange)
    tree["members"].append({**tree["members"][0], "id": "evil", "row": "evil"})
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert jaxformer(*argv).code == 0
    calls = (folder / "calls").read_text(encoding="utf-8").split("\n")[:-1]
    assert [call.split("/")[0] for call in calls] == ["train mine", "evaluate mine"] * 2
    assert not (tmp_path / "evil").exists()
    assert members_of(folder)["mine/base/seed=0"]["argv"][:2] == ["jaxformer", "train"]


def test_values_on_the_command_line_make_rows(jaxformer, tmp_path):
    quickstart = ROOT / "configs" / "quickstart.py"
    result = jaxformer(
        "sweep",
        f"--config={quickstart}",
        "--sweep=model.num_heads=1,2",
        "--sweep=train.seed=3,5",
        "--sweep",
        "train.dropout_rate=1e-1,0.2",
        "--config.train.num_steps=7",
        f"--workdir={tmp_path}",
        "--print",
    )
    assert (result.code, result.err) == (0, "")
    members = members_of(tmp_path)
    assert len(members) == 8
    name = "quickstart/model.num_heads=2,train.dropout_rate=1e-1/seed=5"
    assert [member["seed"] for member in members.values()] == [3] * 4 + [5] * 4
    assert members[name]["overrides"] == {"model.num_heads": 2, "train.dropout_rate": 0.1}
    assert members[name]["config"]["train"]["dropout_rate"] == 0.1
    assert members[name]["config"]["train"]["seed"] == 5
    assert members[name]["argv"][2:-1] == [
        f"--config={quickstart}",
        "--config.train.num_steps=7",
        "--config.model.num_heads=2",
        "--config.train.dropout_rate=1e-1",
        "--config.train.seed=5",
    ]
    assert json.loads((tmp_path / "manifest.json").read_bytes())["scale"] == ""


def test_seeds_alone_make_members_of_base(jaxformer, tmp_path):
    config = f"--config={ROOT / 'configs' / 'table3' / 'base.py'}:laptop/base"
    assert jaxformer("sweep", config, "--seeds=2", f"--workdir={tmp_path}", "--print").code == 0
    assert list(members_of(tmp_path)) == ["base/base/seed=0", "base/base/seed=1"]


def test_a_value_may_have_commas(jaxformer, tmp_path):
    result = jaxformer(
        "sweep",
        f"--config={ROOT / 'configs' / 'quickstart.py'}",
        '--sweep=data.manual_dir="a,b/c",d',
        f"--workdir={tmp_path}",
        "--print",
    )
    assert result.code == 0
    members = list(members_of(tmp_path).values())
    assert [each["config"]["data"]["manual_dir"] for each in members] == ["a,b/c", "d"]
    assert [len(Path(each["workdir"]).parts) for each in members] == [3, 3]


def test_what_is_said_when_all_goes_well(fake, jaxformer, rows, tmp_path):
    folder = tmp_path / "s"
    result = jaxformer("sweep", str(rows), f"--workdir={folder}", "--seeds=2", "--only=*/seed=0")
    assert (result.code, result.err) == (0, "")
    other = next(name for name in members_of(folder) if "d_ff" in name)
    assert lines_of(result) == [
        f"2 members, 0 of them finished: {folder}/manifest.json",
        "mine/base/seed=0: started",
        "mine/base/seed=0: finished in T, sacreBLEU 30.12, perplexity 5.500  "
        "[1 of 2 finished  left T]",
        f"{other}: started (model.d_ff=24)",
        f"{other}: finished in T, sacreBLEU 30.12, perplexity 5.500  [2 of 2 finished  left T]",
        f"2 of 2 members are finished, after T: {folder}",
    ]
    # The manifest has those too that were not to be run.
    assert len(members_of(folder)) == 4
    again = jaxformer("sweep", str(rows), f"--workdir={folder}", "--only=*/seed=0")
    assert lines_of(again) == [
        f"2 members, 2 of them finished: {folder}/manifest.json",
        f"2 of 2 members are finished, after T: {folder}",
    ]
    assert len(members_of(folder)) == 4
    assert jaxformer("sweep", str(rows), f"--workdir={folder}", "--print").out == ""


def test_members_can_be_scored_as_published_results_count(fake, jaxformer, rows, tmp_path):
    argv = ["sweep", str(rows), f"--workdir={tmp_path / 's'}"]
    assert "2 of 2 members are finished" in jaxformer(*argv).out
    # Without a score by it a member is not finished.
    result = jaxformer(*argv, "--protocol=multi_bleu_lc")
    assert (result.code, result.err) == (0, "")
    assert result.out.count(", sacreBLEU 30.12, multi_bleu_lc 41.50, perplexity 5.500") == 2
    for member in members_of(tmp_path / "s").values():
        assert member["evaluate"][-1] == "--protocol=multi_bleu_lc"
    calls = (tmp_path / "s" / "calls").read_text(encoding="utf-8")
    assert calls.count("evaluate") == 4
    jaxformer(*argv, "--protocol=multi_bleu_lc")
    assert (tmp_path / "s" / "calls").read_text(encoding="utf-8") == calls


def test_failures_are_named_at_the_end(fake, jaxformer, rows, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    behave(folder, base="fail")
    result = jaxformer("sweep", str(rows), f"--workdir={folder}")
    assert result.code == 1
    assert result.err.splitlines() == [
        "mine/base/seed=0 failed: train ended with code 2: jaxformer: There is no room. "
        f"(see {folder}/mine/base/seed=0/log.txt)",
        "The same command tries again what has failed.",
    ]
    assert lines_of(result)[2].endswith("  [0 of 2 finished, 1 failed]")
    assert lines_of(result)[4].endswith("  [1 of 2 finished, 1 failed  left T]")
    behave(folder)
    result = jaxformer("sweep", str(rows), f"--workdir={folder}")
    assert (result.code, result.err) == (0, "")
    assert result.out.count("started") == 1


def test_an_interruption_says_how_to_go_on(fake, jaxformer, rows, tmp_path, monkeypatch):
    folder = tmp_path / "s"
    folder.mkdir()
    jaxformer("sweep", str(rows), f"--workdir={folder}", "--print")
    other = next(name for name in members_of(folder) if "d_ff" in name)
    (folder / "behaviour.json").write_text(json.dumps({other: "wait"}), encoding="utf-8")
    tick = command._Report.tick

    def interrupt(self, running):
        tick(self, running)
        if (folder / other / "pid").exists() and (folder / other / "pid").read_bytes():
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command._Report, "tick", interrupt)
    result = jaxformer("sweep", str(rows), f"--workdir={folder}")
    assert result.code == 130
    assert result.err == (
        "jaxformer: Interrupted with 1 of 2 members finished. The same command goes on with the "
        "others.\n"
    )
    assert (folder / other / "interrupted").exists()


def test_a_live_line_on_a_terminal(fake, rows, tmp_path, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    assert command.run([str(rows), f"--workdir={tmp_path / 's'}"]) == 0
    assert "0 of 2 finished  mine/base/seed=0 at step 0/3,500" in stream.getvalue()


def test_a_member_that_is_trained_is_being_scored(jaxformer, rows, tmp_path):
    assert jaxformer("sweep", str(rows), f"--workdir={tmp_path}", "--print").code == 0
    member = read_manifest(tmp_path).members[0]
    (tmp_path / member.workdir).mkdir(parents=True)
    path = tmp_path / member.workdir / "metrics.jsonl"
    stream = io.StringIO()
    with Progress(stream, 0) as progress:
        report = command._Report(progress, 1, [member], tmp_path, finished=0)
        for step, place in ((3499, "at step 3,499/3,500"), (3500, "is being scored")):
            path.write_text(f'{{"step": {step}}}\n', encoding="utf-8")
            assert report._place(member) == place


def test_other_settings_for_a_trained_member_are_refused(jaxformer, rows, tmp_path):
    folder = tmp_path / "s"
    argv = ["sweep", str(rows), f"--workdir={folder}", "--print"]
    assert jaxformer(*argv).code == 0
    # Nothing is trained yet.
    assert jaxformer(*argv, "--config.train.num_steps=9").code == 0
    member = members_of(folder)["mine/base/seed=0"]
    workdir = folder / member["workdir"]
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps(member["config"]), encoding="utf-8")
    before = (folder / "manifest.json").read_bytes()
    result = jaxformer(*argv, "--config.train.num_steps=9", "--config.decode.alpha=0")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"jaxformer: {workdir} holds a run with other settings: decode.alpha is 0.6 there and 0.0 "
        "here. Give another --workdir, or the same settings.\n"
    )
    assert (folder / "manifest.json").read_bytes() == before
    # Where the corpus lies is no matter.
    more = ["--config.train.num_steps=9", f"--config.data.manual_dir={tmp_path}"]
    assert jaxformer(*argv, *more).code == 0


def test_a_file_without_rows_of_the_scale_is_named(jaxformer, rows, tmp_path):
    argv = [str(rows), TABLE_3[0], "--scale=tiny", f"--workdir={tmp_path / 's'}"]
    result = jaxformer("sweep", *argv)
    assert (
        result.err
        == f"jaxformer: No row of {TABLE_3[0]} is for scale 'tiny'. Leave the file out.\n"
    )


def test_the_file_of_the_how_to_can_be_swept(jaxformer, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "my_rows.py").write_text(block, encoding="utf-8")
    monkeypatch.chdir(ROOT)
    argv = ["sweep", str(tmp_path / "my_rows.py"), f"--workdir={tmp_path / 's'}", "--print"]
    assert jaxformer(*argv).code == 0
    rows = [member["row"] for member in members_of(tmp_path / "s").values()]
    assert rows == ["base", "no smoothing"]
