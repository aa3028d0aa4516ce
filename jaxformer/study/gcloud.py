"""A launch as two plain shell scripts around `gcloud compute tpus tpu-vm`: one slice, no engine.

Nothing looks after the slice: one that was taken away must be stopped and started by hand, and one
whose jobs have ended is paid for until it is stopped. Options: `gcloud compute tpus tpu-vm --help`.
"""

import shlex

from jaxformer.study.launch import (
    INDENT,
    SCRIPT,
    Launch,
    environment_lines,
    install_lines,
    job_name,
    options,
    run_lines,
    shell_words,
    verbs_script,
)

_JOBS = "jobs.sh"
_TPU = ["gcloud", "compute", "tpus", "tpu-vm"]


def gcloud_files(launch: Launch) -> dict[str, str]:
    """Returns name -> text of the files."""
    name = _slice_name(launch)
    place = options({"zone": launch.zone, "project": launch.project})

    def on(worker: str, command: str) -> str:
        words = [*_TPU, "ssh", name, *place, f"--worker={worker}", f"--command={command}"]
        return f"{INDENT}{shell_words(words, len(words) - 1, indent=INDENT * 2)}"

    create = [
        *(*_TPU, "create", name, *place),
        f"--accelerator-type={launch.slice.accelerator}",
        f"--version={launch.slice.software}",
        *(["--spot"] if launch.is_spot else []),
    ]
    tidy = 'rm -rf "$sent"'
    send = [*_TPU, "scp", *place, "--worker=all"]
    start = [
        f"{INDENT}sent=$(mktemp -d)",
        f"{INDENT}trap '{tidy}' EXIT",
        # What git knows or would know, and its history, for the record of the run.
        f"{INDENT}{{ git ls-files -z --cached --others --exclude-standard; printf '.git\\0'; }} |",
        f"{INDENT * 2}while IFS= read -r -d '' file; do",
        f"""{INDENT * 3}if [ -e "$file" ]; then printf '%s\\0' "$file"; fi""",
        f"{INDENT * 2}done |",
        f'{INDENT * 2}tar --null -T - -czf "$sent/jaxformer.tar.gz"',
        f"{INDENT}{shell_words(create, 6, indent=INDENT * 2)}",
        # Also when what follows has failed.
        f"{INDENT}trap '{tidy}; echo \"The slice is paid for until it is stopped.\" >&2' EXIT",
        f'{INDENT}{shlex.join(send)} "$sent/jaxformer.tar.gz" \\',
        f"{INDENT * 2}{shlex.quote(f'{launch.folder}/{_JOBS}')} {name}:",
        on("all", "mkdir -p jaxformer && tar -xzf jaxformer.tar.gz -C jaxformer"),
        # Goes on without this connection.
        on("all", f"nohup bash {_JOBS} > jobs.log 2>&1 < /dev/null & echo $! > jobs.pid"),
    ]
    verbs = {
        "start": ("rents the slice, sends this folder, and starts its jobs", start),
        "watch": (
            "shows what the first host prints, until its jobs have ended",
            [on("0", 'tail -n +1 --pid="$(cat jobs.pid)" -f jobs.log')],
        ),
        "stop": (
            "gives the slice back, which is paid for until then",
            [f"{INDENT}{shlex.join([*_TPU, 'delete', name, *place, '--quiet'])}"],
        ),
    }
    return {SCRIPT: verbs_script(launch, "gcloud", verbs), _JOBS: _jobs_text(launch)}


def _slice_name(launch: Launch) -> str:
    """Returns the job's name, or one for all of them."""
    names = [job.name for job in launch.jobs]
    return names[0] if len(names) == 1 else job_name(launch.folder, " ".join(names))


def _jobs_text(launch: Launch) -> str:
    lines = [
        "#!/usr/bin/env bash",
        "# Made by jaxformer for --executor=gcloud; docs/first_tpu_run.md says more.",
        f"# Run by every host of {launch.slice.name}, {launch.slice.chips} chips.",
        "set -euo pipefail",
        'cd "$HOME/jaxformer"',
        *install_lines(),
        *(
            [
                'mkdir -p "$HOME/jaxformer-data"',
                f"gcloud storage rsync --recursive {shlex.quote(launch.data)} "
                '"$HOME/jaxformer-data"',
            ]
            if launch.data
            else []
        ),
        *environment_lines(launch),
        *run_lines([]),
        "failed=0",
    ]
    for job in launch.jobs:
        commands = " &&\n".join(f"run {shell_words(command)}" for command in job.commands)
        lines += [f"# {job.name}", f"{{ {commands}; }} || failed=$?"]
    lines += [
        'echo "All jobs have ended, the last that failed with code $failed; 0: none has."',
        'exit "$failed"',
    ]
    return "\n".join(lines) + "\n"
