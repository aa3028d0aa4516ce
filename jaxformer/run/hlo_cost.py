"""What a compiled program does on each device: operations, bytes, and what devices exchange.

The compiler's own count takes the body of a loop once. Here a body counts as often as it runs,
where that is known.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field

from jaxformer.run.hlo import Computation, Operation, Program
from jaxformer.run.hlo_bytes import bytes_moved
from jaxformer.run.hlo_flops import product_flops

_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_ORIGIN = re.compile(r'op_name="([^"]*)"')
_LAYER = re.compile(r"^layer_\d+$")
# What stands around or between the scopes: transformations, control flow, methods of modules.
_WRAPPER = re.compile(
    r"\w+\(.*\)|while|body|cond|closed_call|shard_map|checkpoint|rematted_computation|remat|scan"
    r"|pjit|custom_(?:jvp|vjp)_call|branch_\d+_fun|\w+\.\w+"
)
_REGULAR = re.compile(r"replica_groups=\[\d+,(\d+)\]")


@dataclass(frozen=True)
class Collective:
    """A kind of exchange: its name in HLO, and how many devices take part in each."""

    kind: str
    devices: int


@dataclass
class Traffic:
    """How often an exchange happens, and its bytes on each device, of all times together.

    Attributes:
      bytes: of the whole arrays: of what an all-gather gives, and a reduce-scatter takes.
      sent: what a device must send at the least, as in a ring.
    """

    count: int = 0
    bytes: float = 0.0
    sent: float = 0.0


@dataclass
class Cost:
    """What one device does.

    Attributes:
      flops: of matrix products, a multiplication and an addition each counted.
      bytes: read and written in main memory, where every operation reads its operands from there
        and writes its results there.
      bytes_by_origin: the same by the part of the model that the operation comes from, as far as
        the compiler says (`origin`).
      collectives: what is exchanged.
      loops: one time through the body of each loop of which it is not known how often it runs; it
        is in the sums once.
    """

    flops: float = 0.0
    bytes: float = 0.0
    bytes_by_origin: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    collectives: dict[Collective, Traffic] = field(default_factory=dict)
    loops: list["Cost"] = field(default_factory=list)

    @property
    def sent(self) -> float:
        """Bytes that a device must send at the least."""
        return sum(traffic.sent for traffic in self.collectives.values())

    def add(self, other: "Cost", times: int = 1) -> None:
        """Adds another cost, so many times."""
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        for name, moved in other.bytes_by_origin.items():
            self.bytes_by_origin[name] += times * moved
        self.loops += other.loops
        for collective, traffic in other.collectives.items():
            mine = self.collectives.setdefault(collective, Traffic())
            mine.count += times * traffic.count
            mine.bytes += times * traffic.bytes
            mine.sent += times * traffic.sent


def cost_of(program: Program) -> Cost:
    """Returns what one device does in one run of the program."""
    return _cost_of(program, program.computations[program.entry], is_fused=False)


def _cost_of(program: Program, computation: Computation, is_fused: bool) -> Cost:
    total = Cost()
    for operation in computation.operations.values():
        called = [
            program.computations[name] for name in operation.called if name in program.computations
        ]
        if operation.opcode == "while":
            body = _cost_of(program, called[0], is_fused)
            trips = program.trips(computation, operation)
            total.add(body, 1 if trips is None else trips)
            if trips is None:
                total.loops.append(body)
        elif operation.opcode == "conditional":
            branches = [_cost_of(program, each, is_fused) for each in called]
            total.add(max(branches, key=lambda branch: (branch.flops, branch.bytes)))
        elif operation.opcode in ("call", "fusion", "async-start"):
            for each in called:
                total.add(_cost_of(program, each, is_fused or operation.opcode != "call"))
        else:
            total.flops += product_flops(computation, operation)
            _add_exchange(total, program, computation, operation)
        if not is_fused and (moved := bytes_moved(program, computation, operation)):
            total.bytes += moved
            total.bytes_by_origin[origin(operation)] += moved
    return total


def origin(operation: Operation) -> str:
    """Returns the scopes that an operation was written in, and its name there.

    "decoder/layers/attention/bhts,bshv->bthv/dot_general", say: all layers of a stack are one, and
    forward and backward are one. An operation that the compiler made itself is its opcode.
    """
    found = _ORIGIN.search(operation.rest)
    parts = found[1].split("/") if found else []
    parts = [_LAYER.sub("layers", part) for part in parts if not _WRAPPER.fullmatch(part)]
    return "/".join(parts) or operation.opcode.removesuffix("-start")


def _add_exchange(
    total: Cost, program: Program, computation: Computation, operation: Operation
) -> None:
    kind = operation.opcode.removesuffix("-start")
    if kind not in _COLLECTIVES:
        return
    given = sum(array.bytes for each in computation.operands(operation) for array in each.results)
    if "all-reduce-scatter" in computation.name:
        # TPU's compiler fuses an all-reduce with the slice that each device keeps.
        kind = "reduce-scatter"
    devices = _group_size(operation.rest, program.partitions)
    whole = given * devices if kind == "all-gather" else given
    share = (devices - 1) / devices
    sent = {
        "all-reduce": 2 * share * whole,
        "collective-permute": whole,
        "collective-broadcast": whole,
    }.get(kind, share * whole)
    traffic = total.collectives.setdefault(Collective(kind, devices), Traffic())
    traffic.count += 1
    traffic.bytes += whole
    traffic.sent += sent


def _group_size(text: str, partitions: int) -> int:
    """Returns how many devices take part; all where no groups are named."""
    if found := _REGULAR.search(text):
        return int(found[1])
    if found := _LISTED.search(text):
        return found[1].count(",") + 1
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", text):
        return pairs[1].count("{")
    return partitions
