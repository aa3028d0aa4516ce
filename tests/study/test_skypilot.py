"""skypilot: YAML that holds the very commands, and the commands of `sky` around it."""

import pytest
import yaml

from jaxformer.study.skypilot import skypilot_files
from tests.study.launches import COMMANDS, Machine, make_launch


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def task_of(**changes):
    return yaml.safe_load(skypilot_files(make_launch(**changes))["job-0.yaml"])


def test_a_task_asks_for_a_spot_slice_and_goes_on_in_it():
    task = task_of()
    assert list(task) == ["name", "workdir", "resources", "setup", "run"]
    assert (task["name"], task["workdir"]) == ("job-0", ".")
    assert task["resources"] == {
        "infra": "gcp/us-west4/us-west4-a",
        "accelerators": "tpu-v5litepod-16",
        "accelerator_args": {"runtime_version": "v2-alpha-tpuv5-lite"},
        "use_spot": True,
        "job_recovery": {"recover_on_exit_codes": [4, 143]},
    }


def test_anywhere_and_not_spot():
    resources = task_of(zone="", is_spot=False)["resources"]
    assert (resources["infra"], resources["use_spot"]) == ("gcp", False)


def test_the_run_part_runs_the_very_command_lines(machine):
    code, _, err = machine.run("bash", "-c", task_of()["run"])
    assert (code, err) == (0, "")
    assert machine.calls("jaxformer") == [command[1:] for command in COMMANDS]


def test_the_program_that_setup_has_installed_is_the_one_that_runs(machine):
    assert machine.run("bash", "-c", task_of()["setup"])[0] == 0
    calls = machine.calls("python3")
    place = f"{machine.home}/.jaxformer"
    assert calls[1][:2] == ["-m", "uv"]
    assert calls[1][-1] == place
    assert calls[2][-6:] == [
        *("--python", place, "--constraints", "constraints/py312.txt"),
        *("--editable", ".[gcs,moses,quickstart,tpu]"),
    ]
    program = machine.home / ".jaxformer" / "bin" / "jaxformer"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    program.chmod(0o755)
    assert machine.run("bash", "-c", task_of()["run"])[0] == 9


def test_text_is_copied_from_a_bucket_and_found(machine):
    task = task_of(data="gs://bucket/text")
    assert task["file_mounts"] == {"~/jaxformer-data": "gs://bucket/text"}
    machine.add_program("jaxformer", 'test "$JAXFORMER_DATA" = "$HOME/jaxformer-data"')
    assert machine.run("bash", "-c", task["run"])[0] == 0


def test_text_of_several_lines_is_written_as_such():
    text = skypilot_files(make_launch())["job-0.yaml"]
    assert "\nsetup: |\n  set -e\n" in text
    assert text.startswith("# Made by jaxformer")


def test_the_script_calls_sky_for_each_job(machine):
    machine.add_program("sky")
    machine.write(skypilot_files(make_launch(jobs=2)))
    script = "launch/my jobs/launch.sh"
    assert machine.run("bash", script, "start", "--yes")[0] == 0
    assert machine.run("bash", script, "watch")[0] == 0
    # One that cannot be ended is no reason to leave the other running, and is told.
    machine.add_program("sky", '[ "$4" = job-1 ] || exit 3')
    code, _, err = machine.run("bash", script, "stop", "--yes")
    assert code == 3
    assert err == (
        "Not all could be ended, or some had ended before: sky jobs queue shows what is left.\n"
    )
    starts = [f"launch/my jobs/job-{number}.yaml" for number in range(2)]
    assert machine.calls("sky") == [
        *(["jobs", "launch", start, "--detach-run", "--yes"] for start in starts),
        ["jobs", "queue"],
        *(["jobs", "cancel", "--name", f"job-{number}", "--yes"] for number in range(2)),
    ]
    for start in starts:
        assert (machine.checkout / start).is_file()


def test_a_single_job_is_watched_by_its_log(machine):
    machine.add_program("sky")
    machine.write(skypilot_files(make_launch()))
    assert machine.run("bash", "launch/my jobs/launch.sh", "watch")[0] == 0
    assert machine.calls("sky") == [["jobs", "logs", "--name", "job-0"]]
