"""xpk: what its workloads run, and the commands of `xpk` around it."""

import signal

import pytest

from jaxformer.study.xpk import xpk_files
from tests.study.launches import COMMANDS, SAVES, Machine, make_launch

SCRIPT = "launch/my jobs/launch.sh"
PLACE = ["--cluster=my-cluster", "--zone=us-west4-a", "--project=my-project"]


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    machine.add_program("xpk")
    return machine


def test_a_job_is_queued_with_a_command_of_one_line(machine):
    machine.write(xpk_files(make_launch(jobs=2, cluster="my-cluster")))
    assert machine.run("bash", SCRIPT, "start")[0] == 0
    first, second = machine.calls("xpk")
    assert first == [
        "workload",
        "create",
        *PLACE,
        "--workload=job-0",
        "--tpu-type=v5litepod-16",
        "--num-slices=1",
        "--base-docker-image=python:3.12",
        "--max-restarts=100",
        "--restart-on-exit-codes=4",
        "--command=exec bash 'launch/my jobs/job-0.sh'",
    ]
    assert second[5] == "--workload=job-1"


def test_its_command_runs_the_very_command_lines(machine):
    machine.write(xpk_files(make_launch(cluster="my-cluster")))
    assert machine.run("bash", SCRIPT, "start")[0] == 0
    command = machine.calls("xpk")[0][-1].removeprefix("--command=")
    # As xpk's container does.
    code, _, err = machine.run("bash", "-c", f"({command}) & wait $!")
    assert (code, err) == (0, "")
    assert machine.calls("jaxformer") == [command[1:] for command in COMMANDS]
    assert machine.calls("python3")[0] == ["-m", "pip", "install", "--quiet", "uv"]


# What xpk puts around a command: xpk/core/docker_container.py.
CONTAINER = """
_sigterm() (kill -SIGTERM $! 2>/dev/null;);
trap _sigterm SIGTERM;
({command}) & PID=$!;
while kill -0 $PID 2>/dev/null; do sleep 0.1; done;
wait $PID; exit $?
"""


def test_a_signal_to_the_container_reaches_the_training(machine):
    machine.add_program("jaxformer", SAVES.format(command="exit 143"))
    machine.write(xpk_files(make_launch(cluster="my-cluster")))
    assert machine.run("bash", SCRIPT, "start")[0] == 0
    command = machine.calls("xpk")[0][-1].removeprefix("--command=")
    process = machine.start("bash", "-c", CONTAINER.format(command=command))
    machine.wait_for("running")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (machine.home / "saved").exists()


def test_jobs_are_listed_and_ended(machine):
    machine.write(xpk_files(make_launch(jobs=2, cluster="my-cluster", zone="", project="")))
    assert machine.run("bash", SCRIPT, "watch")[0] == 0
    assert machine.run("bash", SCRIPT, "stop")[0] == 0
    # One that cannot be ended is no reason to leave the other running, and is told.
    machine.add_program("xpk", "exit 1")
    code, _, err = machine.run("bash", SCRIPT, "stop")
    assert code == 1
    assert err == (
        "Not all could be ended, or some had ended before: xpk workload list "
        "--cluster=my-cluster shows what is left.\n"
    )
    deletes = [
        ["workload", "delete", "--cluster=my-cluster", f"--workload=job-{number}"]
        for number in range(2)
    ]
    assert machine.calls("xpk") == [
        ["workload", "list", "--cluster=my-cluster"],
        *deletes,
        *deletes,
    ]
