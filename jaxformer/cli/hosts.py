"""Options and joining of the commands that several hosts can run as one."""

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Generator

from jaxformer.cli.mistakes import Mistake, describe_end, mistakes
from jaxformer.cli.options import Options, number, whole_number
from jaxformer.cli.workdir import LOST_TIMEOUT

Company = tuple[tuple[str, int], int, int]
"""Host and port of process 0, how many processes there are, and which of them this is."""


def add_host_options(options: Options) -> None:
    """Adds what tells a process which others there are."""
    options.add_argument(
        "--coordinator_address",
        metavar="HOST:PORT",
        help="of process 0, where several run as one (docs/hosts.md); on Cloud TPU not needed",
    )
    options.add_argument("--num_processes", type=whole_number, help="how many there are")
    options.add_argument("--process_id", type=number, help="which of them this is, from 0")
    options.add_argument(
        "--join_timeout",
        type=whole_number,
        default=300,
        metavar="SECONDS",
        help="until a process that has not come is named and given up (default: %(default)s)",
    )
    options.add_argument(
        "--lost_timeout",
        type=whole_number,
        default=LOST_TIMEOUT,
        metavar="SECONDS",
        help="without a sign of life until a process counts as lost (default: %(default)s)",
    )


@contextlib.contextmanager
def joined(chosen: argparse.Namespace) -> Generator[bool]:
    """Joins the other processes, if there are any, and parts from them at the end.

    To be entered before jax has looked for devices.

    Yields: whether this process is the first, which alone writes records.
    Raises: Mistake if the options do not fit, or a process is missing.
    """
    company = _read(chosen) or find_on_cloud_tpu(chosen.join_timeout)
    if company is None or company[1] == 1:
        yield True
        return
    # Imported late, and not at all by a process that is alone.
    from jaxformer.run.hosts import together

    with contextlib.ExitStack() as stack:
        with mistakes():
            stack.enter_context(
                together(
                    *company,
                    join_timeout=chosen.join_timeout,
                    lost_timeout=chosen.lost_timeout,
                    describe=describe_end,
                    say=_say,
                )
            )
        yield company[2] == 0


def find_on_cloud_tpu(timeout: int) -> Company | None:
    """Returns what a host of a TPU slice is told of the others; None elsewhere."""
    if importlib.util.find_spec("libtpu") is None:
        return None
    if os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
        return None
    import jax  # noqa: F401, which looks for the chips.
    from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm
    from jax._src.clusters import ClusterEnv

    if not running_in_cloud_tpu_vm:
        return None
    address, count, number, _ = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, timeout
    )
    if address is None or count is None or number is None:
        return None
    host, _, port = address.rpartition(":")
    return (host, int(port)), count, number


def _read(chosen: argparse.Namespace) -> Company | None:
    names = ("coordinator_address", "num_processes", "process_id")
    address, count, number = (getattr(chosen, name) for name in names)
    missing = [f"--{name}" for name in names if getattr(chosen, name) is None]
    if len(missing) == len(names):
        return None
    if missing:
        raise Mistake(f"{' and '.join(missing)} must be given too, or none of the three.")
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise Mistake(
            f"--coordinator_address={address} is not HOST:PORT, such as 10.0.0.5:8476, where "
            "process 0 can be reached."
        )
    if number >= count:
        raise Mistake(
            f"--process_id={number} is not below --num_processes={count}: they are counted from 0."
        )
    return (host, int(port)), count, number


def _say(sentence: str) -> None:
    print(f"jaxformer: {sentence}", file=sys.stderr, flush=True)
    sys.stdout.flush()
