"""A launch as workloads of xpk, for teams with a cluster of Google Kubernetes Engine.

xpk packs the folder that it is called from into an image, and gives the cluster a JobSet that is
started again when its slice is taken away. Options: github.com/AI-Hypercomputer/xpk, docs/usage.
"""

import shlex

from jaxformer.study.launch import (
    INDENT,
    SCRIPT,
    Job,
    Launch,
    cd_line,
    environment_lines,
    install_lines,
    options,
    run_lines,
    shell_words,
    stop_lines,
    verbs_script,
)

_IMAGE = "python:3.12"
_RESTARTS = 100
# Another process of the run is lost (docs/faults.md). xpk adds what signals end with.
_GO_ON_AFTER = 4


def xpk_files(launch: Launch) -> dict[str, str]:
    """Returns name -> text of the files."""
    place = options({"cluster": launch.cluster, "zone": launch.zone, "project": launch.project})
    starts = [
        shell_words(
            ["xpk", "workload", "create", *place, *_start(job, launch)], 3, indent=INDENT * 2
        )
        for job in launch.jobs
    ]
    look = ["xpk", "workload", "list", *place]
    stops = [["xpk", "workload", "delete", *place, f"--workload={job.name}"] for job in launch.jobs]
    verbs = {
        "start": (
            "sends this folder as an image, and queues each job",
            [f"{INDENT}{line}" for line in starts],
        ),
        "watch": (
            "shows what goes on",
            [f"{INDENT}{shlex.join(look)}"],
        ),
        "stop": (
            "ends each job; the machines of the cluster stay",
            stop_lines([shlex.join(command) for command in stops], shlex.join(look)),
        ),
    }
    files = {f"{job.name}.sh": _job_text(job, launch) for job in launch.jobs}
    return {SCRIPT: verbs_script(launch, "xpk", verbs), **files}


def _start(job: Job, launch: Launch) -> list[str]:
    # Of one line, which xpk puts into YAML as it is; and the shell it is given to must become the
    # script's, or a signal would end that shell alone.
    command = f"exec bash {shlex.quote(f'{launch.folder}/{job.name}.sh')}"
    return [
        f"--workload={job.name}",
        f"--tpu-type={launch.slice.accelerator}",
        "--num-slices=1",
        f"--base-docker-image={_IMAGE}",
        f"--max-restarts={_RESTARTS}",
        f"--restart-on-exit-codes={_GO_ON_AFTER}",
        f"--command={command}",
    ]


def _job_text(job: Job, launch: Launch) -> str:
    lines = [
        "#!/usr/bin/env bash",
        "# Made by jaxformer for --executor=xpk; docs/first_tpu_run.md says more.",
        f"# Run by every host of {launch.slice.name}, {launch.slice.chips} chips.",
        "set -euo pipefail",
        cd_line(launch),
        *install_lines(),
        *environment_lines(launch),
        *run_lines(job.commands),
    ]
    return "\n".join(lines) + "\n"
