"""`jaxformer translate`: lines in, as many lines out, in order."""

import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from jaxformer.cli.mistakes import Mistake, file_mistakes, mistakes
from jaxformer.cli.trained import make_options, read

_LINES_AT_ONCE = 1000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_EPILOG = """\
Line n of the output is the translation of line n of the input; blank lines stay blank. Settings of
decoding can be overridden: --config.decode.average=1, and the like.
"""


def run(argv: Sequence[str]) -> int:
    """Translates; returns the exit code."""
    about = "Translates lines of UTF-8 text with a trained model."
    options = make_options("translate", about, _EPILOG)
    options.add_argument("--input", metavar="FILE", help="text to translate (default: stdin)")
    options.add_argument("--output", metavar="FILE", help="for the translations (default: stdout)")
    chosen, config = read(options, argv)
    with _input(chosen.input) as source:
        _translate(config, chosen.workdir, source, chosen.output)
    return 0


def _translate(config: dict, workdir: str, source: BinaryIO, output: str | None) -> None:
    # Imported late, so that a mistake in the arguments is answered at once.
    from jaxformer.cli.translator import open_trained, open_translate
    from jaxformer.run.translation import translate_stream

    trained = open_trained(config, workdir)
    translate = open_translate(config, trained)
    # A person at a terminal waits for each line.
    at_once = 1 if source.isatty() else _LINES_AT_ONCE
    with file_mistakes(), _output(output) as sink:
        lines = read_lines(source)
        for translations in translate_stream(translate, trained.params, lines, at_once):
            sink.write("".join(f"{line}\n" for line in translations).encode())
            sink.flush()


def read_lines(source: BinaryIO) -> Iterator[str]:
    r"""Yields the lines, without their ends; only "\n" and "\r\n" end a line.

    Raises: Mistake if a line is not UTF-8.
    """
    for number, line in enumerate(source, start=1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise Mistake(
                f"Line {number} of the input is not UTF-8 ({error.reason}). Convert it to UTF-8."
            ) from error


@contextlib.contextmanager
def _input(name: str | None) -> Generator[BinaryIO]:
    if name is None:
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        with mistakes():
            file = stack.enter_context(open(name, "rb"))
        yield file


@contextlib.contextmanager
def _output(name: str | None) -> Generator[BinaryIO]:
    """Opens what is written to; a file takes its name when all is written."""
    if name is None:
        yield sys.stdout.buffer
        return
    path = Path(name)
    if path.exists() and not path.is_file():
        # A pipe or a device.
        with open(path, "wb") as file:
            yield file
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        # The user knows the name that was given, and not the temporary one.
        if str(error.filename) == str(temporary):
            error.filename = name
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
