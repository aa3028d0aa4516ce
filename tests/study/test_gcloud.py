"""gcloud: a slice is rented, gets the folder, and runs the commands; a folder plays its host."""

import re
import subprocess

import pytest

from jaxformer.study.gcloud import gcloud_files
from jaxformer.study.launch import Job
from tests.study.launches import COMMANDS, Machine, make_launch

SCRIPT = "launch/my jobs/launch.sh"
TPU = ["compute", "tpus", "tpu-vm"]
PLACE = ["--zone=us-west4-a", "--project=my-project"]

# Does on one host what the real one does on all: copies files there, and runs commands there.
GCLOUD = r"""
case "$1 $4" in
"storage "*) cp -r "$text/." "${!#}" ;;
"compute scp") for word in "${@:5}"; do [ -f "$word" ] && cp "$word" "$host"; done ;;
"compute ssh") cd "$host"; for word in "${@:5}"; do
    [[ $word == --command=* ]] && HOME=$host bash -c "${word#--command=}"
done ;;
esac
exit 0
"""


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    host = tmp_path / "host"
    host.mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.en").write_text("a\n", encoding="utf-8")
    machine.add_program("gcloud", f"host={host}\ntext={tmp_path}/text\n{GCLOUD}")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    names = ["tracked.py", "gone.py", ".gitignore"]
    subprocess.run([*git, "init", "--quiet"], cwd=machine.checkout, check=True)
    for name in [*names, "new file.py", "left.out"]:
        (machine.checkout / name).write_text("left.out\n", encoding="utf-8")
    subprocess.run([*git, "add", *names], cwd=machine.checkout, check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "x"], cwd=machine.checkout, check=True)
    (machine.checkout / "gone.py").unlink()
    machine.host = host
    return machine


def start(machine, **changes):
    machine.write(gcloud_files(make_launch(**changes)))
    code, _, err = machine.run("bash", SCRIPT, "start")
    assert (code, err) == (0, "The slice is paid for until it is stopped.\n")


def test_a_slice_gets_the_folder_and_runs_all_jobs(machine):
    start(machine, jobs=2, data="gs://bucket/text")
    code, out, err = machine.run("bash", SCRIPT, "watch")
    assert (code, err) == (0, "")
    assert out == "All jobs have ended, the last that failed with code 0; 0: none has.\n"
    assert machine.calls("jaxformer") == [command[1:] for command in COMMANDS] * 2
    sent = machine.host / "jaxformer"
    assert sorted(path.name for path in sent.iterdir()) == [
        ".git",
        ".gitignore",
        "launch",
        "new file.py",
        "tracked.py",
    ]
    assert (machine.host / "jaxformer-data" / "train.en").is_file()
    create, *others = machine.calls("gcloud")
    assert create[:4] == [*TPU, "create"]
    assert create[5:] == [
        *PLACE,
        "--accelerator-type=v5litepod-16",
        "--version=v2-alpha-tpuv5-lite",
        "--spot",
    ]
    name = create[4]
    workers = [word for call in others for word in call if word.startswith("--worker=")]
    assert workers == ["--worker=all"] * 3 + ["--worker=0"]
    assert machine.run("bash", SCRIPT, "stop")[0] == 0
    assert machine.calls("gcloud")[-1] == [*TPU, "delete", name, *PLACE, "--quiet"]


def test_a_job_that_fails_does_not_keep_the_next_from_running(machine):
    machine.add_program("jaxformer", '[ "$1" = evaluate ] || exit 3')
    start(machine, jobs=2)
    _, out, _ = machine.run("bash", SCRIPT, "watch")
    assert out == "All jobs have ended, the last that failed with code 3; 0: none has.\n"
    # Neither is scored.
    assert [call[0] for call in machine.calls("jaxformer")] == ["train", "train"]


def test_a_single_job_gives_the_slice_its_name(machine):
    start(machine, is_spot=False)
    create = machine.calls("gcloud")[0]
    assert create[4] == "job-0"
    assert "--spot" not in create


def test_slices_of_other_buckets_have_other_names():
    def name_of(*names):
        files = gcloud_files(make_launch(jobs=[Job(name, COMMANDS) for name in names]))
        return re.search(r"tpu-vm create (\S+)", files["launch.sh"])[1]

    assert name_of("a", "b") == name_of("a", "b") != name_of("a", "c")


def test_a_slice_that_could_not_be_reached_is_paid_for_too(machine):
    machine.add_program("gcloud", '[ "$4" != scp ]')
    machine.write(gcloud_files(make_launch()))
    code, _, err = machine.run("bash", SCRIPT, "start")
    assert (code, err) == (1, "The slice is paid for until it is stopped.\n")
    assert [call[3] for call in machine.calls("gcloud")] == ["create", "scp"]


def test_nothing_is_rented_for_a_folder_that_cannot_be_sent(machine):
    machine.add_program("tar", "exit 1")
    machine.write(gcloud_files(make_launch()))
    assert machine.run("bash", SCRIPT, "start")[0] == 1
    assert machine.calls("gcloud") == []
