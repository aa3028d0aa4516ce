"""A launch's jobs: their names, and the shell that runs their commands as they are."""

import os
import re
import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxformer.study.launch import Job, job_name, member_jobs, run_lines, verbs_script
from jaxformer.study.manifest import Row, expand
from tests.study.launches import COMMANDS, ROOT, SAVES, TRAIN, Machine, make_launch
from tests.study.sweeps import CONFIG

# A training that goes by the package's own rule for signals.
NOTES = """
import pathlib, time
from jaxformer.run.signals import noted_signals
with noted_signals() as noted_signal:
    pathlib.Path.home().joinpath("running").touch()
    while noted_signal() is None:
        time.sleep(0.05)
    pathlib.Path.home().joinpath("saved").touch()
raise SystemExit(143)
"""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@given(st.text(), st.text())
def test_any_title_gives_a_name_that_every_engine_takes(title, identity):
    # xpk's rule, the strictest: xpk/parser/validators.py.
    name = job_name(title, identity)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 40


def test_names_can_be_read_and_are_told_apart():
    assert job_name("WMT14_en-de", "gs://a/x").startswith("wmt14-en-de-")
    assert job_name("3", "gs://a/x").startswith("job-3-")
    assert job_name("x", "gs://a/x") != job_name("x", "gs://b/x")
    assert job_name("x", "gs://a/x") == job_name("x", "gs://a/x")


def test_a_member_is_a_job_of_its_two_commands():
    rows = [Row("a_heads", label, {}, None, CONFIG, [f"--x={label}"]) for label in ("h=1", "h-1")]
    members = expand(rows, [0], "gs://bucket/table3/")
    jobs = member_jobs(members, "gs://bucket/table3/")
    assert [list(job.commands) for job in jobs] == [[m.argv, m.evaluate] for m in members]
    assert "--workdir=gs://bucket/table3/a_heads/h=1/seed=0" in jobs[0].commands[0]
    assert all(job.name.startswith("table3-a-heads-h-1-seed-0-") for job in jobs)
    assert len({job.name for job in jobs}) == 2
    # The slash at the end of a workdir is no matter.
    assert member_jobs(members, "gs://bucket/table3") == jobs


def test_a_shell_runs_the_very_command_lines(machine):
    code, _, err = machine.run("bash", "-c", "\n".join(["set -euo pipefail", *run_lines(COMMANDS)]))
    assert (code, err) == (0, "")
    assert machine.calls("jaxformer") == [command[1:] for command in COMMANDS]


def test_what_fails_ends_the_job_with_its_code(machine):
    machine.add_program("jaxformer", "exit 4")
    code, _, _ = machine.run("bash", "-c", "\n".join(["set -e", *run_lines(COMMANDS)]))
    assert code == 4
    assert machine.calls("jaxformer") == [TRAIN[1:]]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        # As `jaxformer train` does: it saves its step, and then ends.
        ("exit 143", 143),
        # Ended by itself in the same moment: the job as a whole has not.
        ("exit 0", 143),
        ("exit 2", 2),
    ],
)
def test_a_signal_reaches_the_training_and_its_code_comes_back(machine, command, code):
    machine.add_program("jaxformer", SAVES.format(command=command))
    process = machine.start("bash", "-c", "\n".join(["set -e", *run_lines(COMMANDS)]))
    machine.wait_for("running")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert (machine.home / "saved").exists()
    # The next command is not for a machine that is taken away.
    assert len(machine.calls("jaxformer")) == 1


def test_a_signal_to_the_whole_group_is_obeyed_once(machine):
    # As SkyPilot ends a job. The shell passes on what the training has got already.
    machine.add_program("jaxformer", f"PYTHONPATH={ROOT} exec {sys.executable} -c '{NOTES}'")
    process = machine.start("bash", "-c", "\n".join(["set -e", *run_lines(COMMANDS)]))
    machine.wait_for("running")
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "")
    assert (machine.home / "saved").exists()


def test_a_signal_in_the_moment_of_the_start_reaches_the_training(machine):
    machine.add_program("jaxformer", "sleep 60")
    lines = "\n".join(["set -e", *run_lines(COMMANDS)])
    assert '"$@" &\n' in lines
    lines = lines.replace('"$@" &\n', '"$@" &\nkill -TERM "$BASHPID"\n')
    assert machine.run("bash", "-c", lines)[0] == 143
    assert len(machine.calls("jaxformer")) <= 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], "2 jobs are named 'a'. Tell them apart."),
        (["Base"], "A job cannot be named 'Base'. Take what job_name gives: small letters, "),
        (["a" * 41], "digits and dashes, at most 40, a letter first."),
    ],
)
def test_jobs_have_names_that_engines_take_and_tell_apart(names, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_launch(jobs=[Job(name, COMMANDS) for name in names])


def test_a_script_without_a_verb_does_nothing_and_says_what_it_can(machine):
    verbs = {"start": ("begins", ["    touch started"]), "stop": ("ends", ["    touch stopped"])}
    machine.write({"launch.sh": verbs_script(make_launch(), "an engine", verbs)})
    script = "launch/my jobs/launch.sh"
    for words in ([], ["begin"]):
        code, out, err = machine.run("bash", script, *words)
        assert (code, out) == (2, "")
        assert err.splitlines() == [
            "bash 'launch/my jobs/launch.sh' start  begins",
            "bash 'launch/my jobs/launch.sh' stop   ends",
        ]
    assert sorted(path.name for path in machine.checkout.iterdir()) == ["launch"]
    # From wherever it is called.
    assert machine.run("bash", "-c", f"cd launch && bash '../{script}' stop")[0] == 0
    assert (machine.checkout / "stopped").exists()
    # Whatever other folders a shell looks for names in.
    (machine.home / "launch" / "my jobs").mkdir(parents=True)
    assert machine.run("env", f"CDPATH={machine.home}", "bash", script, "start")[0] == 0
    assert (machine.checkout / "started").exists()
