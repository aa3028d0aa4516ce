"""What is run on machines elsewhere, as files to be read, kept and started by whoever pays for it.

Nothing here starts anything. The engines (skypilot.py, xpk.py and gcloud.py beside this file) turn
jobs into files; a job's commands are those that run locally, word by word.
"""

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxformer.study.manifest import Member
from jaxformer.study.slices import Slice

SCRIPT = "launch.sh"
"""The file of every launch that starts, shows and stops it."""
INDENT = "    "

# xpk's, the narrowest.
_NAME = r"[a-z]([a-z0-9-]*[a-z0-9])?"
_LONGEST_NAME = 40
_DIGEST = 6

_ENVIRONMENT = '"$HOME/.jaxformer"'
# The hosts' own Python is older than ours.
_PYTHON = "3.12"
_EXTRAS = ".[gcs,moses,quickstart,tpu]"
_DATA = '"$HOME/jaxformer-data"'

# A shell would neither pass a signal on nor wait: a training saves its last step at SIGTERM. One
# that was sent to both of them reaches it twice, which it takes for once (run/signals.py).
_RUN = """\
run() {
    local code=0 pid= stopped=
    trap 'stopped=yes; [ -z "$pid" ] || kill -TERM "$pid" 2> /dev/null || true' TERM
    "$@" &
    pid=$!
    if [ "$stopped" ]; then kill -TERM "$pid" 2> /dev/null || true; fi
    wait "$pid" || code=$?
    while kill -0 "$pid" 2> /dev/null; do
        code=0
        wait "$pid" || code=$?
    done
    trap - TERM
    if [ "$stopped" ]; then exit "$((code ? code : 143))"; fi
    return "$code"
}"""


@dataclass(frozen=True)
class Job:
    """What one slice does.

    Attributes:
      name: lower-case letters, digits and dashes, at most 40, a letter first.
      commands: command lines, each to be run on every host when the one before has ended well.
    """

    name: str
    commands: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Launch:
    """Where jobs are to run.

    Attributes:
      jobs: with names that differ.
      slice: that each job gets.
      folder: that the files will lie in, relative to the folder that is sent to the machines.
      root: the folder that is sent, relative to `folder`.
      zone, project, cluster: in Google's cloud; "" for what the engine takes by itself.
      data: gs:// folder of text, which becomes $JAXFORMER_DATA; "" for none.
      is_spot: whether a slice may be taken away, for a lower price.

    Raises: ValueError if a job's name is not what it must be, or there twice.
    """

    jobs: Sequence[Job]
    slice: Slice
    folder: str
    root: str
    zone: str = ""
    project: str = ""
    cluster: str = ""
    data: str = ""
    is_spot: bool = True

    def __post_init__(self) -> None:
        names = [job.name for job in self.jobs]
        for name in names:
            if not re.fullmatch(_NAME, name) or len(name) > _LONGEST_NAME:
                raise ValueError(
                    f"A job cannot be named {name!r}. Take what job_name gives: small letters, "
                    f"digits and dashes, at most {_LONGEST_NAME}, a letter first."
                )
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} jobs are named {name!r}. Tell them apart.")


def member_jobs(members: Sequence[Member], sweep: str) -> list[Job]:
    """Returns a job of each member: its training, then its evaluation.

    Args:
      sweep: its workdir, by which members of two sweeps are told apart.
    """
    return [
        Job(
            job_name(f"{title(sweep)}-{member.id}", f"{sweep.rstrip('/')}/{member.workdir}"),
            [member.argv, member.evaluate],
        )
        for member in members
    ]


def title(workdir: str) -> str:
    """Returns what a run or a sweep is called by: the last name in its workdir's address."""
    return workdir.rstrip("/").rpartition("/")[2]


def job_name(title: str, identity: str) -> str:
    """Returns a name that every engine takes: readable from `title`, unique by `identity`."""
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{readable_name(title)}-{digest}"


def readable_name(title: str) -> str:
    """Returns what of a title every engine, shell and file system takes as a name."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    words = words if words[:1].isalpha() else f"job-{words}"
    return words[: _LONGEST_NAME - _DIGEST - 1].strip("-")


def install_lines() -> list[str]:
    """Returns the shell's lines that install jaxformer from the folder that was sent."""
    return [
        "python3 -m pip install --quiet uv",
        f"python3 -m uv venv --quiet --allow-existing --python {_PYTHON} {_ENVIRONMENT}",
        f"python3 -m uv pip install --quiet --python {_ENVIRONMENT} \\",
        f"{INDENT}--constraints constraints/py{_PYTHON.replace('.', '')}.txt --editable "
        f"{shlex.quote(_EXTRAS)}",
    ]


def run_lines(commands: Sequence[Sequence[str]]) -> list[str]:
    """Returns the shell's lines that run one command after another, and end with what fails."""
    return [*_RUN.split("\n"), *(f"run {shell_words(command)}" for command in commands)]


def environment_lines(launch: Launch) -> list[str]:
    """Returns the shell's lines by which `jaxformer` and its text are found."""
    lines = ['export PATH="$HOME/.jaxformer/bin:$PATH"']
    return [*lines, f"export JAXFORMER_DATA={_DATA}"] if launch.data else lines


def shell_words(command: Sequence[str], first: int = 2, indent: str = INDENT) -> str:
    """Returns a command line quoted for a shell, a word a line but for so many first ones."""
    words = [_quote(word) for word in command]
    return f" \\\n{indent}".join([" ".join(words[:first]), *words[first:]])


def options(named: Mapping[str, str]) -> list[str]:
    """Returns --name=value of each, but of those that are empty."""
    return [f"--{name}={value}" for name, value in named.items() if value]


def cd_line(launch: Launch) -> str:
    """Returns the shell's line that goes from a script of the launch to the folder that is sent."""
    return f'CDPATH= cd -- "$(dirname -- "$0")"/{shlex.quote(launch.root)}'


def stop_lines(commands: Sequence[str], look: str) -> list[str]:
    """Returns the shell's lines that try each command, and fail in the end if one of them has.

    Args:
      look: a command that shows what is left.
    """
    said = f"Not all could be ended, or some had ended before: {look} shows what is left."
    return [
        f"{INDENT}failed=0",
        *(f"{INDENT}{command} || failed=$?" for command in commands),
        f'{INDENT}if [ "$failed" != 0 ]; then echo {shlex.quote(said)} >&2; fi',
        f'{INDENT}exit "$failed"',
    ]


def verbs_script(
    launch: Launch, engine: str, verbs: Mapping[str, tuple[str, Sequence[str]]]
) -> str:
    """Returns a script with a part for each verb, which does nothing without one.

    Args:
      engine: that the script is for.
      verbs: verb -> (what it does, its lines).
    """
    place = shlex.quote(f"{launch.folder}/{SCRIPT}")
    usage = [f"bash {place} {verb:<6} {says}" for verb, (says, _) in verbs.items()]
    lines = [
        "#!/usr/bin/env bash",
        f"# Made by jaxformer for --executor={engine}; docs/first_tpu_run.md says more.",
        "set -euo pipefail",
        cd_line(launch),
        "",
        'case "${1:-}" in',
    ]
    for verb, (_, body) in verbs.items():
        lines += [f"{verb})", *body, f"{INDENT};;"]
    lines += [
        "*)",
        f"{INDENT}printf '%s\\n' \\",
        *(f"{INDENT * 2}{shlex.quote(line)} \\" for line in usage[:-1]),
        f"{INDENT * 2}{shlex.quote(usage[-1])} >&2",
        f"{INDENT}exit 2",
        f"{INDENT};;",
        "esac",
    ]
    return "\n".join(lines) + "\n"


def _quote(word: str) -> str:
    """Returns a word quoted for a shell, in --name=value just the value."""
    name = re.match(r"--[A-Za-z0-9_.-]+=", word)
    return f"{name[0]}{shlex.quote(word[name.end() :])}" if name else shlex.quote(word)
