"""Reading a compiled program's text (HLO): its computations, operations, and their sizes."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BYTES = {
    "pred": 1.0,
    "s2": 0.25,
    "u2": 0.25,
    "s4": 0.5,
    "u4": 0.5,
    "f4e2m1fn": 0.5,
    "bf16": 2.0,
    "c64": 8.0,
    "c128": 16.0,
    "token": 0.0,
    "opaque": 0.0,
}
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{$")
_NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r" ?([\w\-]+)\(")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|branch_computations|called_computations|true_computation|"
    r"false_computation)=(?:%?([\w.\-]+)|\{([^}]*)\})"
)
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_TRIPS = re.compile(r'"?known_trip_count"?\s*[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)')


@dataclass(frozen=True)
class Array:
    """The type of an array.

    Attributes:
      in_main_memory: false where the layout puts it into a memory of the processor's own.
    """

    dtype: str
    dimensions: tuple[int, ...]
    in_main_memory: bool = True

    @property
    def bytes(self) -> float:
        """What it takes, padding of the layout not counted."""
        return math.prod(self.dimensions) * _bytes_of(self.dtype)


@dataclass(frozen=True)
class Operation:
    """A line of a computation.

    Attributes:
      results: its array, or those of its tuple.
      operands: names of operations of the same computation.
      number: of a parameter, which operand of the caller it is; the value of a constant, if that is
        a whole number.
      called: names of computations, without the condition of a loop.
      rest: what stands behind the operands.
    """

    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    number: int | None
    called: tuple[str, ...]
    rest: str


@dataclass(frozen=True)
class Computation:
    """A function of the program.

    Attributes:
      operations: by name, in their order; the last is the result.
      root: name of the operation that is the result.
    """

    name: str
    operations: dict[str, Operation]
    root: str

    def source(self, name: str) -> Operation | None:
        """Returns the operation of a name, or what it is a copy of."""
        found = self.operations.get(name)
        while found is not None and found.opcode in ("copy", "bitcast", "copy-start", "copy-done"):
            found = self.operations.get(found.operands[0])
        return found

    def operands(self, operation: Operation) -> Iterator[Operation]:
        """Yields the operations that are the operands of one."""
        for name in operation.operands:
            if name in self.operations:
                yield self.operations[name]


@dataclass(frozen=True)
class Program:
    """A compiled program of one device.

    Attributes:
      computations: by name.
      entry: name of the first.
      partitions: devices that run it together.
    """

    computations: dict[str, Computation]
    entry: str
    partitions: int

    def trips(self, computation: Computation, loop: Operation) -> int | None:
        """Returns how often a loop's body runs, None where that is not known.

        TPU's compiler does not say it; there it is read from the condition, if that is one of the
        loops that jax makes of scans: a counter from 0, below a constant. The compiler's own loops,
        which exchange pieces of an array and use each as it comes, may count by twos.
        """
        if found := _TRIPS.search(loop.rest):
            return int(found[1])
        named = _CONDITION.search(loop.rest)
        condition = self.computations.get(named[1]) if named else None
        if condition is None or "direction=LT" not in condition.operations[condition.root].rest:
            return None
        counter, *limits = condition.operands(condition.operations[condition.root])
        place = re.search(r"index=(\d+)", counter.rest)
        start = next(computation.operands(loop), None)
        if not limits or limits[0].opcode != "constant" or place is None or start is None:
            return None
        first = computation.source(start.operands[int(place[1])])
        if first is None or first.number != 0 or limits[0].number is None:
            return None
        return -(-limits[0].number // self._stride(loop, int(place[1])))

    def _stride(self, loop: Operation, place: int) -> int:
        """Returns by how much a loop's counter grows: 1 where the body does not say."""
        body = self.computations[loop.called[0]]
        made = body.operations[body.root]
        counter = body.source(made.operands[place]) if made.opcode == "tuple" else None
        if counter is None or counter.opcode != "add":
            return 1
        added = [body.source(name) for name in counter.operands]
        steps = [each.number for each in added if each is not None and each.opcode == "constant"]
        return steps[0] if steps and steps[0] else 1


def parse(text: str) -> Program:
    """Reads a program, as `compiled.as_text()` gives it.

    Raises: ValueError if there is no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, name, root = "", "", ""
    operations: dict[str, Operation] = {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name, root, operations = head[2], "", {}
            entry = name if head[1] else entry
        elif line == "}" or line.startswith("} "):
            computations[name] = Computation(name, operations, root)
        elif found := _NAME.match(line):
            operation = _parse_operation(found[2], line[found.end() :])
            operations[operation.name] = operation
            root = operation.name if found[1] else root
    if entry not in computations:
        raise ValueError("This is not the text of a compiled program: it has no ENTRY.")
    partitions = re.search(r"\bnum_partitions=(\d+)", text)
    return Program(computations, entry, int(partitions[1]) if partitions else 1)


def _parse_operation(name: str, text: str) -> Operation:
    end = _end_of_type(text)
    opcode = _OPCODE.match(text, end)
    if opcode is None:
        return Operation(name, "", arrays_of(text[:end]), (), None, (), text[end:])
    close = _closing(text, opcode.end() - 1)
    within, rest = text[opcode.end() : close], text[close + 1 :]
    called = []
    for one, several in _CALLED.findall(rest):
        called += [one] if one else [each.strip().lstrip("%") for each in several.split(",")]
    return Operation(
        name=name,
        opcode=opcode[1],
        results=arrays_of(text[:end]),
        operands=tuple(_OPERAND.findall(within)),
        number=int(within) if opcode[1] in ("parameter", "constant") and within.isdigit() else None,
        called=tuple(each for each in called if each),
        rest=rest,
    )


def arrays_of(text: str) -> tuple[Array, ...]:
    """Returns all arrays of a type's text, those of a tuple in order."""
    return tuple(
        Array(
            dtype,
            # A bound instead of a size, as in f32[<=8], stands for its largest value.
            tuple(int(size.strip("<=")) for size in sizes.split(",") if size),
            "S(" not in layout,
        )
        for dtype, sizes, layout in _ARRAY.findall(text)
    )


def _end_of_type(text: str) -> int:
    """Returns where the type ends that the text begins with."""
    if text.startswith("("):
        return _closing(text, 0) + 1
    end = text.find(" ")
    return len(text) if end < 0 else end


def _closing(text: str, start: int) -> int:
    """Returns where the parenthesis ends that is opened at `start`."""
    depth = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[()]', text[start:]):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return start + found.start()
    return len(text)


def _bytes_of(dtype: str) -> float:
    if dtype in _BYTES:
        return _BYTES[dtype]
    # s8, u16, f32, f8e4m3fn and the like.
    bits = re.match(r"[a-z]+(\d+)", dtype)
    return int(bits[1]) / 8 if bits else 0.0
