"""The engines' own programs read what is written for them; nothing is asked of any cloud."""

import json
import os
import subprocess

import pytest
import yaml

from jaxformer.study.skypilot import skypilot_files
from jaxformer.study.slices import find_slice
from jaxformer.study.xpk import xpk_files
from tests.study.launches import COMMANDS, Machine, make_launch

pytestmark = [pytest.mark.slow, pytest.mark.needs("launchers")]

SLICES = ["v5e:4x4", "v5e:2x4", "v6e:16x16", "v6e:1x1", "v5p:2x2x4", "v4:2x2x2"]

READ_TASKS = """
import json, sys, sky
from sky.utils.infra_utils import InfraInfo

# The zone's own test: a task that names one is looked up in a list of Google's, over the network.
zone = InfraInfo.from_str(sys.argv[1])
found = [[zone.cloud, zone.region, zone.zone]]
for path in sys.argv[2:]:
    task = sky.Task.from_yaml(path)
    (resources,) = task.resources
    found.append([task.name, task.setup, task.run, task.file_mounts, resources.to_yaml_config()])
    task.validate(skip_file_mounts=True, skip_workdir=True)
print("found:" + json.dumps(found))
"""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def ask(machine, script, *words):
    """Runs Python with the engines, at home in the machine's home."""
    run = subprocess.run(
        [os.environ["LAUNCHERS_PYTHON"], "-c", script, *words],
        cwd=machine.checkout,
        env={
            **os.environ,
            "HOME": str(machine.home),
            # Neither tells its makers of a test.
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "TELEMETRY_ENABLED": "false",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_skypilot_reads_its_tasks(machine):
    paths, wanted = [], []
    for number, name in enumerate(SLICES):
        launch = make_launch(slice=find_slice(name), data="gs://bucket/text", zone="")
        text = skypilot_files(launch)["job-0.yaml"]
        machine.write({f"{number}.yaml": text})
        paths.append(f"launch/my jobs/{number}.yaml")
        wanted.append((launch.slice, yaml.safe_load(text)))
    infra = yaml.safe_load(skypilot_files(make_launch())["job-0.yaml"])["resources"]["infra"]
    output = ask(machine, READ_TASKS, infra, *paths)
    zone, *found = json.loads(output.rpartition("found:")[2])
    assert zone == ["gcp", "us-west4", "us-west4-a"]
    assert len(found) == len(SLICES)
    for (slice, task), (name, setup, run, mounts, resources) in zip(wanted, found, strict=True):
        assert (name, setup, run) == (task["name"], task["setup"], task["run"])
        assert mounts == {"~/jaxformer-data": "gs://bucket/text"}
        assert resources["infra"] == "gcp"
        assert resources["accelerators"] == {f"tpu-{slice.accelerator}": 1}
        assert resources["accelerator_args"]["runtime_version"] == slice.software
        assert resources["use_spot"] is True
        assert resources["job_recovery"]["recover_on_exit_codes"] == [4, 143]


@pytest.mark.parametrize("name", SLICES[:1] + SLICES[2:5])
def test_xpk_makes_a_jobset_that_runs_the_command_lines(machine, name):
    launch = make_launch(slice=find_slice(name), cluster="my-cluster")
    machine.add_program("xpk")
    machine.write(xpk_files(launch))
    assert machine.run("bash", "launch/my jobs/launch.sh", "start")[0] == 0
    (call,) = machine.calls("xpk")
    place = machine.home / "jobset.yaml"
    script = "import sys; from xpk.main import main; sys.argv[0] = 'xpk'; main()"
    more = ["--dry-run", "--skip-validation", f"--output-manifest-file={place}"]
    ask(machine, script, *call, *more)
    jobset = yaml.safe_load(place.read_text(encoding="utf-8"))
    assert (jobset["kind"], jobset["metadata"]["name"]) == ("JobSet", "job-0")
    spec = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert 4 in spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert int(container["resources"]["limits"]["google.com/tpu"]) * spec["parallelism"] == (
        launch.slice.chips
    )
    # What a host of the cluster would do.
    code, _, _ = machine.run(*container["command"])
    assert code == 0
    assert machine.calls("jaxformer") == [command[1:] for command in COMMANDS]
