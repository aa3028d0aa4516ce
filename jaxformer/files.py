"""Files by name: written whole or not at all, and read as strict JSON or refused.

A name is that of a local file, or of an object in a bucket of Google Cloud Storage
(`gs://bucket/folder/name`), which has no folders, is always whole, and never grows.
"""

import asyncio
import contextlib
import errno
import functools
import importlib.util
import json
import logging
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

_DEEPEST = 50
_BUCKETS = "gs://"
# Seconds, the innermost last; the first are those of a command that holds nothing.
_patience = [15.0]
# Whose errors are those of a bucket: what is installed with the extra gcs.
_CLIENTS = ("aiohttp", "gcsfs", "google.api_core", "google.auth", "google.cloud", "requests")


def in_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one in a bucket."""
    return os.fspath(path).startswith(_BUCKETS)


def as_path(name: str | os.PathLike[str]) -> Path:
    """Returns a local path, or one in a bucket, which has most of the methods of a local one.

    It has no `absolute` and no `resolve`, and needs the extra gcs as soon as it is asked anything.

    Raises: ValueError for an address of another kind, or one that names no folder in a bucket.
    """
    text = os.fspath(name)
    scheme = re.match(r"(?:([A-Za-z][\w.+-]+)://|gs:/)", text)
    if scheme is None:
        return Path(text)
    if scheme[1] != "gs":
        raise ValueError(f"{text} is no place for files. Give a local folder, or {_BUCKETS}...")
    if not re.fullmatch(r"gs://[^/]+/+[^/].*", text, re.S):
        raise ValueError(f"{text} names no folder in a bucket. Give {_BUCKETS}bucket/folder.")
    _set_up_clients()
    # Imported late: few need it.
    from etils import epath

    return cast(Path, epath.Path(text))


@functools.cache
def _set_up_clients() -> None:
    # TensorFlow would be used where it is installed, which another extra brings.
    os.environ.setdefault("EPATH_USE_TF", "false")
    # Before each file gcsfs would ask what kind of bucket it is, for some that can do more.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import fsspec.config

    # What others write, TensorStore in this process among them, is seen at once.
    fsspec.config.conf.setdefault("gs", {}).setdefault("use_listings_cache", False)
    if importlib.util.find_spec("gcsfs") is not None:
        _make_patient()
        _forget_file_systems()
    for name in ("fsspec", "gcsfs", "google"):
        # What fails is raised, and said once.
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = name == "google"


def _make_patient() -> None:
    """Has the client of all files bear refusals as long as those of single objects are borne.

    By itself it tries six times, which takes half a minute.
    """
    import fsspec
    import fsspec.asyn
    from gcsfs.core import GCSFileSystem
    from gcsfs.retry import is_retriable

    class PatientFileSystem(GCSFileSystem):
        async def _call(self, *args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            while True:
                try:
                    return await super()._call(*args, **kwargs)
                except Exception as error:
                    is_passing = is_retriable(error) or isinstance(error, asyncio.TimeoutError)
                    if not is_passing or time.monotonic() - start > patience():
                        raise

        # The base class's is bound to its own `_call`; parts of large files are sent by it.
        call = fsspec.asyn.sync_wrapper(_call)

    for name in ("gs", "gcs"):
        fsspec.register_implementation(name, PatientFileSystem, clobber=True)


def _forget_file_systems() -> None:
    """Has paths that were asked before this module was, as TFDS's are, be asked as it asks."""
    from etils.epath.backend import fsspec_backend

    # It keeps one for the process, and has no public way to give it up.
    with contextlib.suppress(AttributeError):
        fsspec_backend._get_filesystem.cache_clear()


def patience() -> float:
    """Returns the seconds for which this process asks a bucket again that is silent or refuses."""
    return _patience[-1]


@contextlib.contextmanager
def patient(seconds: float) -> Generator[None]:
    """Gives all requests of this process so much patience meanwhile."""
    _patience.append(seconds)
    try:
        yield
    finally:
        _patience.pop()


def is_folder(name: str | os.PathLike[str]) -> bool:
    """Whether it is a folder, local or in a bucket.

    Raises: OSError if the bucket cannot be asked, where a path's own `is_dir` would say no.
    """
    path = as_path(name)
    if not in_bucket(path):
        return path.is_dir()
    with object_errors(path):
        return path.exists() and path.is_dir()


@contextlib.contextmanager
def object_errors(path: str | os.PathLike[str]) -> Generator[None]:
    """Turns what the client of a bucket raises into an OSError that names `path`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if not is_of_bucket(error):
            raise
        told = " ".join(str(error).split()) or type(error).__name__
        told = f"The bucket cannot be reached ({told})"
        raise OSError(errno.EIO, told, os.fspath(path)) from error


def is_of_bucket(error: BaseException) -> bool:
    """Whether an error comes from the client of a bucket; not all of those are OSErrors."""
    return any(
        f"{kind.__module__}.".startswith(f"{client}.")
        for kind in type(error).__mro__
        for client in _CLIENTS
    )


def replace_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    r"""Writes a file under a temporary name, waits for the disk, and gives it its name.

    Until then an older file of that name stays as it is. The folder is made when missing. An object
    in a bucket is replaced in one step by nature.

    Args:
      content: text is written as UTF-8, with "\n" at the ends of lines.

    Raises: OSError, naming `path`, if it cannot be written; nothing is left behind then.
    """
    path = as_path(path)
    data = content.encode() if isinstance(content, str) else content
    if in_bucket(path):
        with object_errors(path):
            path.write_bytes(data)
        return
    # Of this process alone: two may write the same file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        # The user does not know the temporary name.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Generator[Path]:
    """Gives a temporary folder to fill, which becomes `path` when the block has ended well.

    After any error there is neither. The folders above are made when missing.

    Raises: ValueError if `path` is there and not an empty folder; OSError if it cannot be written.
    """
    path = Path(os.path.abspath(path))
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} is there already, and not empty. Move it away, or name another.")
    # Of this process alone, among those of other machines too.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        sync_folder(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def user_path(name: str | os.PathLike[str]) -> Path:
    """Returns the path with `~` or `~user` spelt out, or as it is if there is no such user.

    Path's own `expanduser` raises a RuntimeError then.
    """
    return Path(os.path.expanduser(name))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a file of strict JSON.

    Raises: ValueError if it is anything else, has a number that is not finite, or is nested deeper
      than functions that call themselves can follow; OSError if it cannot be read.
    """
    text = as_path(path).read_bytes()
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)} is not JSON ({error}).") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise ValueError(f"{os.fspath(path)} is nested deeper than {_DEEPEST} levels.")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Waits until the names of what lies in `folder` have reached the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
