"""A launch as SkyPilot's managed jobs: a YAML file a job, and the commands of `sky` for all.

A slice that is taken away is asked for again, wherever there is one, and the same commands then go
on from the workdir in the bucket. Fields: docs.skypilot.co, "SkyPilot YAML" and "Cloud TPU".
"""

import shlex
from typing import Any

import yaml

from jaxformer.study.launch import (
    INDENT,
    SCRIPT,
    Job,
    Launch,
    environment_lines,
    install_lines,
    run_lines,
    stop_lines,
    verbs_script,
)

# Another process of the run is lost (docs/faults.md), and a signal that was obeyed.
_GO_ON_AFTER = [4, 143]


def skypilot_files(launch: Launch) -> dict[str, str]:
    """Returns name -> text of the files."""
    files = {f"{job.name}.yaml": _task_text(job, launch) for job in launch.jobs}
    starts = [["sky", "jobs", "launch", f"{launch.folder}/{name}"] for name in files]
    names = [job.name for job in launch.jobs]
    watches = [["sky", "jobs", "queue"]]
    if len(names) == 1:
        watches = [["sky", "jobs", "logs", "--name", names[0]]]
    stops = [["sky", "jobs", "cancel", "--name", name] for name in names]
    verbs = {
        "start": (
            "asks for each job at its price, and starts it; --yes does not ask",
            # Without waiting for its end.
            [f'{INDENT}{shlex.join(command)} --detach-run "${{@:2}}"' for command in starts],
        ),
        "watch": ("shows what goes on", [f"{INDENT}{shlex.join(command)}" for command in watches]),
        "stop": (
            "asks for each job, and ends it and what it pays for; --yes does not ask; "
            "`sky jobs queue` shows what is left",
            # One that has ended already is no reason to leave the others running.
            stop_lines(
                [f'{shlex.join(command)} "${{@:2}}"' for command in stops], "sky jobs queue"
            ),
        ),
    }
    return {SCRIPT: verbs_script(launch, "skypilot", verbs), **files}


def _task_text(job: Job, launch: Launch) -> str:
    resources: dict[str, Any] = {
        "infra": _infra(launch.zone),
        "accelerators": f"tpu-{launch.slice.accelerator}",
        "accelerator_args": {"runtime_version": launch.slice.software},
        "use_spot": launch.is_spot,
        "job_recovery": {"recover_on_exit_codes": _GO_ON_AFTER},
    }
    task: dict[str, Any] = {"name": job.name, "workdir": ".", "resources": resources}
    if launch.data:
        task["file_mounts"] = {"~/jaxformer-data": launch.data}
    task["setup"] = _script(["set -e", *install_lines()])
    task["run"] = _script(["set -e", *environment_lines(launch), *run_lines(job.commands)])
    head = (
        "# Made by jaxformer for --executor=skypilot; docs/first_tpu_run.md says more.\n"
        f"# Run by every host of {launch.slice.name}, {launch.slice.chips} chips.\n"
    )
    return head + yaml.dump(task, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, where YAML can."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(str, _Dumper.represent_text)


def _script(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _infra(zone: str) -> str:
    """Returns the cloud, and in it the zone if one is named: us-west4-a lies in us-west4."""
    return f"gcp/{zone.rpartition('-')[0]}/{zone}" if zone else "gcp"
