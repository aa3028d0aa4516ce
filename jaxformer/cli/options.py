"""A command's own options, beside the settings that `--config.` overrides."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from jaxformer.cli.config import suggestion
from jaxformer.cli.mistakes import Mistake


class Options(argparse.ArgumentParser):
    """argparse with one sentence for a mistake instead of its usage."""

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"jaxformer {command}",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Reads the arguments.

        Raises: Mistake for one that is unknown, lacks its value, or has a wrong one.
        """
        # Intermixed: arguments without a name may stand before and after those that have one.
        found, rest = self.parse_known_intermixed_args(argv)
        if rest:
            known = [option for action in self._actions for option in action.option_strings]
            # An override is known by what stands before its first dot.
            name = rest[0].partition("=")[0].partition(".")[0]
            raise Mistake(f"Unknown argument {rest[0]!r}.{suggestion(name, known)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Raises a Mistake."""
        raise Mistake(f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")


def whole_number(text: str) -> int:
    """Reads a number of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def number(text: str) -> int:
    """Reads a number of 0 or more."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)
