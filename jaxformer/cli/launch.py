"""Options of the commands that can be run on machines elsewhere, and the files that start them.

Such a command ends when the files are written, or printed: nothing is started, nothing paid for.
"""

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxformer.cli import config as config_lib
from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.cli.options import Options
from jaxformer.cli.sent import check_is_sent, left_out_by, lies_in
from jaxformer.files import replace_file, user_path
from jaxformer.study.launch import SCRIPT, Job, Launch, readable_name, title
from jaxformer.study.manifest import Manifest, write_manifest
from jaxformer.study.slices import find_slice

LOCAL = "local"
EXECUTORS = (LOCAL, "skypilot", "xpk", "gcloud")

# Option -> the executors that it means something to.
_MEANT_FOR = {
    "topology": ("skypilot", "xpk", "gcloud"),
    "launch_dir": ("skypilot", "xpk", "gcloud"),
    "zone": ("skypilot", "xpk", "gcloud"),
    "project": ("xpk", "gcloud"),
    "cluster": ("xpk",),
    "text": ("skypilot", "gcloud"),
    "on_demand": ("skypilot", "gcloud"),
}
_NEEDED = {
    "topology": "the slice that `jaxformer preflight --topology=...` has found to be enough",
    "cluster": "as `xpk cluster list` shows it",
    "zone": "where the slice is to be, such as us-west4-a",
}
_BUCKET = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^/]+)+/?")
_WORD = re.compile(r"[a-z0-9][a-z0-9.:-]*")
_EXAMPLES = {"project": "my-project-123", "cluster": "my-cluster"}
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_ZONE = re.compile(rf"{_REGION.pattern}-[a-z0-9]*[a-z]")


def add_launch_options(options: argparse.ArgumentParser) -> None:
    """Adds what says on which machines the work is to be done."""
    options.add_argument(
        "--executor",
        default=LOCAL,
        metavar="ENGINE",
        help=f"what runs it: {', '.join(EXECUTORS)} (default: %(default)s; docs/first_tpu_run.md)",
    )
    options.add_argument(
        "--topology", metavar="SLICE", help="elsewhere: the slice of TPUs, such as v5e:4x4"
    )
    options.add_argument("--zone", help="elsewhere: where the slice is to be, such as us-west4-a")
    options.add_argument("--project", help="elsewhere: who pays")
    options.add_argument("--cluster", help="xpk: name of the cluster")
    options.add_argument(
        "--text", metavar="gs://BUCKET/FOLDER", help="elsewhere: text that becomes $JAXFORMER_DATA"
    )
    options.add_argument(
        "--on_demand", action="store_true", help="elsewhere: no spot machines, which cost less"
    )
    options.add_argument(
        "--launch_dir",
        metavar="FOLDER",
        help="elsewhere: where the files go (default: launch/NAME)",
    )


def without_launch_options(argv: Sequence[str]) -> list[str]:
    """Returns the command line that does the work where it is given."""
    parser = Options("", "")
    add_launch_options(parser)
    parser.add_argument("--print", action="store_true")
    return parser.parse_known_args(argv)[1]


def is_elsewhere(chosen: argparse.Namespace) -> bool:
    """Returns whether the work is to be done on other machines.

    Raises: Mistake if the options do not fit each other.
    """
    executor = chosen.executor
    if executor not in EXECUTORS:
        near = difflib.get_close_matches(executor, EXECUTORS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(EXECUTORS)}."
        raise Mistake(f"Unknown executor {executor!r}. {hint}")
    given = [name for name in _MEANT_FOR if getattr(chosen, name)]
    for name in given:
        if executor not in _MEANT_FOR[name]:
            raise Mistake(
                f"--{name} is for --executor={' or '.join(_MEANT_FOR[name])}, and this is "
                f"{executor}. Leave it out{', or name one of these' * (executor == LOCAL)}."
            )
    return executor != LOCAL


def check_launch(chosen: argparse.Namespace, specs: Sequence[str]) -> None:
    """Checks what other machines need: a bucket, a slice, and config files that are sent to them.

    Args:
      specs: config files, with their arguments.

    Raises: Mistake if anything is missing or wrong.
    """
    if not chosen.workdir.startswith("gs://"):
        name = Path(chosen.workdir).name or "name"
        raise Mistake(
            f"--workdir={chosen.workdir} cannot be reached from other machines, of which one goes "
            f"on where another has ended. Name a folder in a bucket: --workdir=gs://BUCKET/{name}."
        )
    for name in ("workdir", "text"):
        _check_bucket(name, getattr(chosen, name))
    needed = ["topology", *{"xpk": ["cluster"], "gcloud": ["zone"]}.get(chosen.executor, [])]
    for name in needed:
        if not getattr(chosen, name):
            raise Mistake(f"--executor={chosen.executor} needs --{name}=NAME, {_NEEDED[name]}.")
    for name, example in _EXAMPLES.items():
        value = getattr(chosen, name)
        if value and not _WORD.fullmatch(value):
            raise Mistake(f"--{name}={value!r} is no name of Google's cloud, such as {example}.")
    if chosen.zone and not _ZONE.fullmatch(chosen.zone):
        if _REGION.fullmatch(chosen.zone):
            raise Mistake(
                f"--zone={chosen.zone} is a region. Name a zone in it, such as {chosen.zone}-a."
            )
        raise Mistake(f"--zone={chosen.zone!r} is no zone of Google's cloud, such as us-west4-a.")
    with mistakes():
        find_slice(chosen.topology)
    here = Path.cwd()
    if not (here / "jaxformer" / "__init__.py").is_file():
        raise Mistake(
            f"{here} is what would be sent to the machines, and holds no jaxformer. Start from the "
            "folder of its checkout."
        )
    for spec in specs:
        check_is_sent(config_lib.split_spec(spec)[0], chosen.executor)


def launch_folder(chosen: argparse.Namespace) -> Path:
    """Returns the folder of the files.

    Raises: Mistake if it cannot be one.
    """
    folder = user_path(chosen.launch_dir or f"launch/{readable_name(title(chosen.workdir))}")
    _check_printable("launch_dir", os.fspath(folder))
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise Mistake(f"{there} is a file, where --launch_dir needs a folder. Name another.")
    if chosen.executor == "xpk":
        if not lies_in(folder, Path.cwd()):
            raise Mistake(
                f"--launch_dir={folder} is not in {Path.cwd()}, which xpk sends. Name one within "
                "it."
            )
        if by := left_out_by(folder, chosen.executor):
            raise Mistake(
                f"--launch_dir={folder} is not sent by xpk: {by} leaves it out. Name another."
            )
    return folder


def launch(
    chosen: argparse.Namespace, jobs: Sequence[Job], manifest: Manifest | None = None
) -> int:
    """Writes the files of jobs, or prints them, and says how they are started.

    Args:
      chosen: options that `check_launch` has passed.
      manifest: of the jobs, which is written beside them.

    Returns: the exit code.
    Raises: Mistake if the folder cannot be one or holds another launch, jobs cannot be told apart,
      or the files cannot be written.
    """
    folder, here = launch_folder(chosen), Path.cwd()
    with mistakes():
        work = Launch(
            jobs=jobs,
            slice=find_slice(chosen.topology),
            folder=os.path.relpath(folder, here),
            root=os.path.relpath(here, folder),
            zone=chosen.zone or "",
            project=chosen.project or "",
            cluster=chosen.cluster or "",
            data=chosen.text or "",
            is_spot=not chosen.on_demand,
        )
    files = _engine(chosen.executor)(work)
    if chosen.print:
        for name, text in files.items():
            print(f"==> {folder / name} <==\n{text}")
        return 0
    with mistakes():
        _check_same(folder / SCRIPT, files[SCRIPT])
        if manifest is not None:
            write_manifest(folder, manifest)
        for name, text in files.items():
            replace_file(folder / name, text)
    script = shlex.quote(os.fspath(folder / SCRIPT))
    print(
        f"{folder} holds {_counted(len(jobs), 'job')} for {work.slice.name} "
        f"({_counted(work.slice.chips, 'chip')} each): "
        f"{', '.join(list(files)[:3])}{', ...' if len(files) > 3 else ''}\n"
        "Nothing has been started. Read the files; this starts them, and then costs money:\n"
        f"  bash {script} start\n"
        f"and `bash {script} stop` ends them."
    )
    return 0


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _engine(name: str) -> Callable[[Launch], dict[str, str]]:
    # Imported late: PyYAML is for one of them only.
    if name == "skypilot":
        from jaxformer.study.skypilot import skypilot_files

        return skypilot_files
    if name == "xpk":
        from jaxformer.study.xpk import xpk_files

        return xpk_files
    from jaxformer.study.gcloud import gcloud_files

    return gcloud_files


def _check_bucket(name: str, value: str | None) -> None:
    """Checks an option that names a folder in a bucket, if it is given."""
    if not value:
        return
    _check_printable(name, value)
    if not _BUCKET.fullmatch(value):
        raise Mistake(
            f"--{name}={value} is no folder in a bucket. Write gs://BUCKET/FOLDER; a bucket's "
            "name has 3 or more small letters, digits, dashes, dots and underscores."
        )
    if {".", ".."} & set(value.split("/")):
        raise Mistake(
            f"--{name}={value} goes through . or .., which in a bucket are no folders but names. "
            "Name the folder itself."
        )


def _check_printable(name: str, value: str) -> None:
    if not value.isprintable():
        raise Mistake(f"--{name}={value!r} has characters that cannot be printed. Name another.")


def _check_same(script: Path, text: str) -> None:
    """Checks that a launch's script is not there, or is what would be written.

    Raises: Mistake if it is another: it stops jobs that this one does not know, or was changed.
    """
    if script.exists() and script.read_bytes() != text.encode():
        raise Mistake(
            f"{script} is there already, of another launch or changed by hand. Give another "
            "--launch_dir, or remove it."
        )
