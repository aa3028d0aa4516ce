"""--executor: files for other machines, with the very command lines; nothing is started."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.cli.launch import without_launch_options
from tests.study.launches import Machine

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = ["configs/table3/b_key_size.py", "--scale=laptop"]
SLICE = "--topology=v5e:4x4"
TRAIN = [
    "--config=configs/quickstart.py",
    '--config.data.data_dir=it\'s\na "folder" in $HOME',
    "--workdir=gs://bucket/runs/mine",
    "--config.train.num_steps=7",
    "--lost_timeout=61",
]
ELSEWHERE = {
    "skypilot": ["--executor=skypilot", SLICE],
    "xpk": ["--executor", "xpk", SLICE, "--cluster", "mine"],
    "gcloud": ["--executor=gcloud", SLICE, "--zone=us-west4-a", "--text=gs://bucket/text"],
}


@pytest.fixture(autouse=True)
def _start_from_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def written():
    """Returns what a launch might leave in the checkout."""
    return sorted([*ROOT.iterdir(), *(ROOT / "launch").rglob("*")])


def texts_of(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}


def run_job(machine, text):
    """Runs what a host runs: the `run` part of a task, or a script; returns its calls."""
    if text.startswith("#!"):
        (machine.home / "jaxformer").mkdir(exist_ok=True)
        machine.write({"job.sh": text})
        command = ["bash", "launch/my jobs/job.sh"]
    else:
        command = ["bash", "-c", yaml.safe_load(text)["run"]]
    code, _, err = machine.run(*command)
    assert (code, err) == (0, "")
    return machine.calls("jaxformer")


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "machine").mkdir()
    machine = Machine(tmp_path / "machine")
    machine.add_program("gcloud")
    return machine


@pytest.mark.parametrize("executor", ELSEWHERE)
def test_hosts_run_the_very_command_line(jaxformer, machine, executor):
    result = jaxformer("train", *TRAIN[:2], *ELSEWHERE[executor], *TRAIN[2:], "--print")
    assert (result.code, result.err) == (0, "")
    job = re.split(r"^==> .* <==\n", result.out, flags=re.M)[2]
    assert run_job(machine, job) == [["train", *TRAIN]]


def test_what_is_said_when_files_are_written(jaxformer, tmp_path):
    result = jaxformer("train", *TRAIN, *ELSEWHERE["skypilot"], f"--launch_dir={tmp_path / 'x'}")
    names = sorted(texts_of(tmp_path / "x"))
    assert names[0] == "launch.sh"
    assert names[1].startswith("mine-")
    assert result.out.splitlines() == [
        f"{tmp_path}/x holds 1 job for v5e:4x4 (16 chips each): {', '.join(names)}",
        "Nothing has been started. Read the files; this starts them, and then costs money:",
        f"  bash {tmp_path}/x/launch.sh start",
        f"and `bash {tmp_path}/x/launch.sh stop` ends them.",
    ]


def test_files_can_be_printed_and_are_then_not_written(jaxformer):
    before = written()
    result = jaxformer("train", *TRAIN, *ELSEWHERE["gcloud"], "--print")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("==> launch/mine/launch.sh <==\n#!/usr/bin/env bash\n")
    assert "==> launch/mine/jobs.sh <==" in result.out
    assert written() == before


def test_a_sweep_is_a_job_a_member_and_a_manifest(jaxformer, machine, tmp_path):
    folder = tmp_path / "x"
    argv = ["sweep", *TABLE, "--workdir=gs://bucket/table3", *ELSEWHERE["skypilot"]]
    argv = [*argv, f"--launch_dir={folder}"]
    assert jaxformer(*argv).code == 0
    members = json.loads((folder / "manifest.json").read_bytes())["members"]
    texts = [text for name, text in texts_of(folder).items() if name.endswith("yaml")]
    assert len(members) == len(texts) == 2
    for text in texts:
        run_job(machine, text)
    calls = [["jaxformer", *call] for call in machine.calls("jaxformer")]
    assert sorted(calls) == sorted(m[key] for m in members for key in ("argv", "evaluate"))
    assert members[0]["argv"][-1] == f"--workdir=gs://bucket/table3/{members[0]['id']}"
    # More seeds go into the same manifest, and stay there; a single member may be chosen.
    more = [*argv, "--seeds=2", "--only=*/d_k=16/seed=1"]
    before = texts_of(folder)
    assert jaxformer(*more).err == f"jaxformer: {folder}/launch.sh {ANOTHER}\n"
    assert texts_of(folder) == before
    (folder / "launch.sh").unlink()
    assert jaxformer(*more).out.startswith(f"{folder} holds 1 job for v5e:4x4")
    assert len(list(folder.glob("*.yaml"))) == 3
    (folder / "launch.sh").unlink()
    assert jaxformer(*argv).code == 0
    assert len(json.loads((folder / "manifest.json").read_bytes())["members"]) == 4
    # Other sweeps do not.
    before = texts_of(folder)
    result = jaxformer(*argv, "--workdir=gs://other/table3")
    assert result.err == (
        f"jaxformer: {folder}/manifest.json is of a sweep with another --workdir. Give another "
        "--launch_dir, or remove it.\n"
    )
    result = jaxformer(*argv, "--scale=paper")
    assert result.err == (
        "jaxformer: The sweep that is there is of scale 'laptop', and this one of scale 'paper'. "
        "Give another --launch_dir.\n"
    )
    assert texts_of(folder) == before


def test_a_launch_is_not_written_over_another(jaxformer, tmp_path):
    argv = ["train", *TRAIN, *ELSEWHERE["skypilot"], f"--launch_dir={tmp_path}"]
    assert jaxformer(*argv).code == 0
    before = texts_of(tmp_path)
    # The same once more is no other, with more steps neither; and what is printed is not written.
    assert jaxformer(*argv, "--config.train.num_steps=8").code == 0
    assert jaxformer(*argv).code == 0
    other = [*argv, "--workdir=gs://other/runs/mine"]
    assert jaxformer(*other, "--print").code == 0
    result = jaxformer(*other)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {tmp_path}/launch.sh {ANOTHER}\n"
    assert texts_of(tmp_path) == before
    (tmp_path / "launch.sh").write_text("echo mine\n", "utf-8")
    assert jaxformer(*argv).err == result.err


def test_a_slash_at_the_end_of_a_workdir_makes_no_other_job(jaxformer, tmp_path):
    argv = ["train", CONFIG, *ELSEWHERE["skypilot"]]
    for number, workdir in enumerate([GS, f"{GS}/"]):
        assert jaxformer(*argv, workdir, f"--launch_dir={tmp_path / str(number)}").code == 0
    first, second = (sorted(texts_of(tmp_path / name)) for name in "01")
    assert first == second


def test_where_the_files_go(jaxformer, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    argv = ["train", CONFIG, *ELSEWHERE["skypilot"]]
    assert jaxformer(*argv, GS, "--launch_dir=~/x").code == 0
    assert (tmp_path / "x" / "launch.sh").is_file()
    result = jaxformer(*argv, "--workdir=gs://bucket/My runs/it's=1", "--print")
    assert result.out.startswith("==> launch/it-s-1/launch.sh <==\n")


def test_the_argv_is_the_same_without_executor_as_with_local():
    assert without_launch_options([*TRAIN, "--executor=local"]) == TRAIN


@given(st.data())
def test_launch_options_are_taken_out_wherever_they_stand(data):
    argv = list(TRAIN)
    for options in data.draw(st.permutations(list(ELSEWHERE.values()))):
        at = data.draw(st.integers(0, len(argv)))
        argv[at:at] = options
        # An option and its value are not torn apart.
        argv = without_launch_options(argv)
        assert argv == TRAIN


GS = "--workdir=gs://bucket/mine"
CONFIG = "--config=configs/quickstart.py"
SKYPILOT = [CONFIG, GS, "--executor=skypilot", SLICE]
XPK = [CONFIG, GS, "--executor=xpk", SLICE]
ANOTHER = (
    "is there already, of another launch or changed by hand. Give another --launch_dir, or remove "
    "it."
)
BY_HAND = (
    "The hosts of a slice find each other. Leave --coordinator_address, --num_processes and "
    "--process_id out."
)
NO_BUCKET = (
    "--workdir=runs/mine cannot be reached from other machines, of which one goes on where another "
    "has ended. Name a folder in a bucket: --workdir=gs://BUCKET/mine."
)
NO_FOLDER = (
    "is no folder in a bucket. Write gs://BUCKET/FOLDER; a bucket's name has 3 or more small "
    "letters, digits, dashes, dots and underscores."
)
MISTAKES = {
    "an unknown executor": (
        [CONFIG, GS, "--executor=skypillot"],
        "Unknown executor 'skypillot'. Did you mean 'skypilot'?",
    ),
    "an executor like none": (
        [CONFIG, GS, "--executor=slurm"],
        "Unknown executor 'slurm'. There are local, skypilot, xpk, gcloud.",
    ),
    "no bucket": ([CONFIG, "--workdir=runs/mine", "--executor=skypilot", SLICE], NO_BUCKET),
    "a bucket itself": (
        [CONFIG, "--workdir=gs://bucket", "--executor=skypilot", SLICE],
        f"--workdir=gs://bucket {NO_FOLDER}",
    ),
    "a bucket that cannot be": (
        [CONFIG, "--workdir=gs://BUCKET/mine", "--executor=skypilot", SLICE],
        f"--workdir=gs://BUCKET/mine {NO_FOLDER}",
    ),
    "no slice": (
        [CONFIG, GS, "--executor=skypilot"],
        "--executor=skypilot needs --topology=NAME, the slice that `jaxformer preflight "
        "--topology=...` has found to be enough.",
    ),
    "an unknown slice": (
        [CONFIG, GS, "--executor=skypilot", "--topology=tpu-v6e-256"],
        "Unknown slice 'tpu-v6e-256'. Did you mean 'v6e:16x16'? A slice is named as for preflight: "
        "kind and shape, such as v5e:4x4 or v6e:16x16.",
    ),
    "no cluster": (
        [CONFIG, GS, "--executor=xpk", SLICE],
        "--executor=xpk needs --cluster=NAME, as `xpk cluster list` shows it.",
    ),
    "no zone": (
        [CONFIG, GS, "--executor=gcloud", SLICE],
        "--executor=gcloud needs --zone=NAME, where the slice is to be, such as us-west4-a.",
    ),
    "a zone that is none": (
        [*SKYPILOT, "--zone=us west"],
        "--zone='us west' is no zone of Google's cloud, such as us-west4-a.",
    ),
    "a part of the world for a zone": (
        [*SKYPILOT, "--zone=europe"],
        "--zone='europe' is no zone of Google's cloud, such as us-west4-a.",
    ),
    "a region for a zone": (
        [*SKYPILOT, "--zone=us-west4"],
        "--zone=us-west4 is a region. Name a zone in it, such as us-west4-a.",
    ),
    "a cluster that is none": (
        [*XPK, "--cluster=MyCluster"],
        "--cluster='MyCluster' is no name of Google's cloud, such as my-cluster.",
    ),
    "no workdir": (
        [CONFIG, "--executor=skypilot", SLICE],
        "A folder for the run is needed: --workdir=gs://BUCKET/name.",
    ),
    "a bucket with a short name": (
        [CONFIG, "--workdir=gs://b/mine", "--executor=skypilot", SLICE],
        f"--workdir=gs://b/mine {NO_FOLDER}",
    ),
    "the way back in a bucket": (
        [CONFIG, "--workdir=gs://bucket/a/../b", "--executor=skypilot", SLICE],
        "--workdir=gs://bucket/a/../b goes through . or .., which in a bucket are no folders but "
        "names. Name the folder itself.",
    ),
    "two lines for a workdir": (
        [CONFIG, "--workdir=gs://bucket/a\nb", "--executor=skypilot", SLICE],
        "--workdir='gs://bucket/a\\nb' has characters that cannot be printed. Name another.",
    ),
    "two lines for a folder": (
        [*SKYPILOT, "--launch_dir=a\nb"],
        "--launch_dir='a\\nb' has characters that cannot be printed. Name another.",
    ),
    "a file for a folder": (
        [*SKYPILOT, "--launch_dir=README.md/x"],
        "README.md is a file, where --launch_dir needs a folder. Name another.",
    ),
    "an option of another executor": (
        [CONFIG, GS, "--executor=skypilot", SLICE, "--cluster=mine"],
        "--cluster is for --executor=xpk, and this is skypilot. Leave it out.",
    ),
    "an option without an executor": (
        [CONFIG, "--workdir=runs/mine", SLICE],
        "--topology is for --executor=skypilot or xpk or gcloud, and this is local. Leave it out, "
        "or name one of these.",
    ),
    "text that is not in a bucket": (
        [CONFIG, GS, "--executor=skypilot", SLICE, "--text=/data"],
        f"--text=/data {NO_FOLDER}",
    ),
    "a config of this machine": (
        [f"--config={ROOT}/configs/quickstart.py", GS, "--executor=skypilot", SLICE],
        f"{ROOT}/configs/quickstart.py is another place on the machines. Name it from here: "
        "configs/quickstart.py.",
    ),
    "files that are not sent": (
        [CONFIG, GS, "--executor=xpk", SLICE, "--cluster=c", "--launch_dir=/tmp/x"],
        f"--launch_dir=/tmp/x is not in {ROOT}, which xpk sends. Name one within it.",
    ),
    "hosts by hand": (
        [
            *(CONFIG, GS, "--executor=skypilot", SLICE, "--coordinator_address=a:1"),
            *("--num_processes=2", "--process_id=0"),
        ],
        BY_HAND,
    ),
    "a number of hosts": ([*SKYPILOT, "--num_processes=4"], BY_HAND),
    "a host's number": ([*SKYPILOT, "--process_id=0"], BY_HAND),
    "files that an image leaves out": (
        [*XPK, "--cluster=c", "--launch_dir=runs/x"],
        "--launch_dir=runs/x is not sent by xpk: .dockerignore leaves it out. Name another.",
    ),
    "text of this machine": (
        [*SKYPILOT, "--config.data.data_dir=/data"],
        f"data.data_dir=/data is not in {ROOT}, which is what the machines get. Copy it there, and "
        "name it from there.",
    ),
    "a corpus that there is not": (
        [*SKYPILOT, "--config.data.corpus=wmt15"],
        "Unknown corpus 'wmt15'; choose one of bible, multi30k, plain_text, treebank, wmt14, or "
        "name a TFDS builder class as 'package.module:Class'.",
    ),
    "a corpus without files": (
        ["--config=configs/plain_text.py", *SKYPILOT[1:]],
        "Corpus 'plain_text' was given no files: set data.train_source and data.train_target.",
    ),
    "a mesh of another slice": (
        [*SKYPILOT, "--config.parallel.data=3"],
        "parallel.data=3, parallel.fsdp=1, parallel.tensor=1 needs 3 devices, and there are 16. "
        "Set them so that their product is the number of devices, one of them to -1 for what the "
        "others leave.",
    ),
    "a search for NaN on many chips": (
        [*SKYPILOT, "--debug_nans"],
        "--debug_nans looks for the operation on one device, and v5e:4x4 has 16. Leave it out, or "
        "name a slice of one.",
    ),
    "nothing to print": (
        [CONFIG, "--workdir=runs/mine", "--print"],
        "--print prints what --executor writes. Name one, such as skypilot.",
    ),
    "a model that cannot be": (
        [*SKYPILOT, "--config.model.num_heads=5"],
        "d_model=128 is not divisible by num_heads=5. Set model.d_k and model.d_v, or choose a "
        "multiple of 5.",
    ),
    "a model that a mesh does not divide": (
        [*SKYPILOT, "--config.parallel.tensor=16"],
        "decoder.layer_0.attention.key.kernel of shape (128, 4, 32) with axes (model, heads, "
        "None): axis 1 of 4 is not divisible by parallel.tensor = 16. Set model.num_heads to a "
        "multiple of 16, or choose another mesh.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(jaxformer, name):
    before = written()
    argv, message = MISTAKES[name]
    result = jaxformer("train", *argv)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {message}\n"
    assert written() == before


def test_configs_elsewhere_and_folders_without_jaxformer_are_named(
    jaxformer, tmp_path, monkeypatch
):
    (tmp_path / "mine.py").write_text((ROOT / "configs" / "base.py").read_text("utf-8"), "utf-8")
    result = jaxformer("train", f"--config={tmp_path}/mine.py", GS, *ELSEWHERE["skypilot"])
    assert result.err == (
        f"jaxformer: {tmp_path}/mine.py is not in {ROOT}, which is what the machines get. Copy it "
        "there, and name it from there.\n"
    )
    swept = [CONFIG, GS, *ELSEWHERE["skypilot"], "--sweep", f"data.data_dir=,{ROOT}/text"]
    result = jaxformer("sweep", *swept)
    assert result.err == (
        f"jaxformer: data.data_dir={ROOT}/text is another place on the machines. Name it from "
        "here: text.\n"
    )
    result = jaxformer("sweep", *TABLE, GS, *ELSEWHERE["skypilot"], "--config.data.data_dir=/data")
    assert result.err.startswith(f"jaxformer: data.data_dir=/data is not in {ROOT}, which is")
    monkeypatch.chdir(tmp_path)
    result = jaxformer("train", "--config=mine.py", GS, *ELSEWHERE["skypilot"])
    assert result.err == (
        f"jaxformer: {tmp_path} is what would be sent to the machines, and holds no jaxformer. "
        "Start from the folder of its checkout.\n"
    )


@pytest.mark.parametrize("option", ["--jobs=2", "--population"])
def test_a_sweep_elsewhere_has_no_jobs_here(jaxformer, option):
    result = jaxformer("sweep", *TABLE, GS, *ELSEWHERE["skypilot"], option)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "--jobs and --population are for --executor=local. Leave them out." in result.err
