"""Settings from a config file, with the command line's overrides.

A config file is Python with a function `get_config(arg="") -> ConfigDict`, so running it is running
code; a workdir's config.json is only data.
"""

import contextlib
import difflib
import runpy
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxformer.cli.mistakes import Mistake
from jaxformer.files import user_path

_FLAG = "--config"
_FILES = [
    f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")
]
PATHS = ("data_dir", "manual_dir", *_FILES)
"""Settings of data that name files or folders."""
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false"}

Assignment = tuple[str, str]
"""A dotted key and the text of its new value."""


def split_arguments(argv: Sequence[str]) -> tuple[str, list[Assignment], list[str]]:
    """Takes `--config=FILE` and every `--config.a.b=value` out of a command line.

    Returns: (the file or "", the overrides in order, all other arguments).
    """
    spec, assignments, rest = "", [], []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name != _FLAG and not name.startswith(f"{_FLAG}."):
            rest.append(argument)
            continue
        if not equals:
            value = next(arguments, "")
            if not value or value.startswith("--"):
                raise Mistake(f"{name} lacks a value. Write {name}=...")
        if name == _FLAG:
            spec = value
        else:
            assignments.append((name.removeprefix(f"{_FLAG}."), value))
    return spec, assignments, rest


def load(spec: str) -> ConfigDict:
    """Runs the config file named by `path.py` or `path.py:argument`; the result is locked.

    Raises: Mistake if there is no such file, it fails, or it does not take the argument.
    """
    name, argument = split_spec(spec)
    get_config = read_names(name).get("get_config")
    if get_config is None:
        raise Mistake(f"{name} has no function get_config, so it is not a config file.")
    with _faults_of(name):
        config = get_config() if argument is None else get_config(argument)
    if not isinstance(config, ConfigDict):
        raise Mistake(
            f"get_config of {name} returned {type(config).__name__}, expected a ConfigDict."
        )
    return config.lock()


def split_spec(spec: str) -> tuple[str, str | None]:
    """Returns the file of `path.py` or `path.py:argument`, and the argument if there is one."""
    name, colon, argument = (spec, "", "") if Path(spec).is_file() else spec.partition(":")
    return name, argument if colon else None


def read_names(name: str) -> dict[str, Any]:
    """Runs a config file and returns what it defines.

    Raises: Mistake if there is no such file, or it fails.
    """
    path = user_path(name)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        raise Mistake(f"There is no config file {name!r}.{_did_you_mean(near)}")
    with _faults_of(name):
        return runpy.run_path(str(path))


@contextlib.contextmanager
def _faults_of(name: str) -> Generator[None]:
    """Turns whatever a config file's code raises into a Mistake."""
    try:
        yield
    except Exception as error:
        # A ValueError says what is wrong; of others, such as KeyError, the name says the most.
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise Mistake(f"Config file {name}: {kind}{' '.join(str(error).split())}") from error


def override(config: ConfigDict, assignments: Iterable[Assignment]) -> dict[str, Any]:
    """Sets each dotted key to its value, read as the type that stands there.

    Returns: dotted key -> new value.
    Raises: Mistake for a key that does not exist, or a value of another type.
    """
    values = {}
    for key, text in assignments:
        groups, name = key.split(".")[:-1], key.split(".")[-1]
        place: Any = config
        for group in groups:
            place = place[group] if isinstance(place, ConfigDict) and group in place else None
        if not isinstance(place, ConfigDict) or name not in place:
            raise Mistake(f"Unknown setting {key!r}.{suggestion(key, dotted_keys(config))}")
        if isinstance(place[name], ConfigDict):
            raise Mistake(
                f"{key!r} is a group of settings. Set one of them: "
                f"{', '.join(f'{key}.{field}' for field in place[name])}."
            )
        place[name] = values[key] = _read(key, text, type(place[name]))
    return values


def resolve_paths(config: ConfigDict) -> None:
    """Makes the paths of existing files and folders absolute, so that any folder will do later."""
    for name in PATHS:
        path = user_path(config.data[name])
        if config.data[name] and path.exists():
            config.data[name] = str(path.absolute())


def dotted_keys(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of all settings; one that has a dot in itself is quoted."""
    for name in config:
        value = config[name]
        key = f"{prefix}{name}" if "." not in name else f"{prefix}{name!r}"
        # A group within a group is no setting, and whoever wrote it may have gone on for ever.
        if isinstance(value, Mapping | ConfigDict) and value and not prefix:
            yield from dotted_keys(value, f"{key}.")
        else:
            yield key


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean ...?" with the known name that is most like `name`, or ""."""
    known = list(known)
    last = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, known, n=1)
    # The right name in the wrong group comes before a like name.
    near = [key for key in known if "." in key and key.rpartition(".")[2] == last] or near
    return _did_you_mean(near)


def _did_you_mean(near: Sequence[str]) -> str:
    return f" Did you mean {near[0]!r}?" if near else ""


def _siblings(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.glob("*.py")) if path.parent.is_dir() else []


def _read(key: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return _TRUTHS[text.lower()]
        if kind in (int, float):
            return kind(text)
    except (ValueError, KeyError):
        raise Mistake(f"{key}={text!r} is not {_KINDS[kind]}, which it must be.") from None
    return text
