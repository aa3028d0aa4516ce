"""Bytes that the operations of a compiled program read and write in main memory."""

from collections.abc import Iterable, Iterator

from jaxformer.run.hlo import Array, Computation, Operation, Program

# They hand on what is there, or end what another one began.
_FREE = frozenset(
    (
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
        "opt-barrier",
        "while",
        "conditional",
        "call",
    )
)
# Of their first operand they read no more than they give.
_SLICES = frozenset(("dynamic-slice", "gather", "slice"))
# They lay the same elements out otherwise, if at all.
_VIEWS = frozenset(("bitcast", "reshape"))


def bytes_moved(program: Program, computation: Computation, operation: Operation) -> float:
    """Returns what an operation reads and writes: its operands and results, as far as it uses them.

    What lies in a memory of the processor's own is not counted, nor what happens within a fused
    computation.
    """
    opcode = operation.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0.0
    operands = list(computation.operands(operation))
    given = _size(array for each in operands for array in each.results)
    results = _size(operation.results)
    if opcode in ("fusion", "async-start"):
        fused = program.computations[operation.called[0]]
        return _read_by_fused(fused, operands) + _written_by_fused(fused, operation)
    if opcode.removesuffix("-start") in _SLICES:
        return _moved_by_slice(operation, operands)
    if opcode == "dynamic-update-slice":
        # In place: what is put in is read, and written.
        return 2 * _size(operands[1].results)
    if opcode.endswith("-start") and opcode != "all-reduce-start":
        # Its results hold its operands too.
        results = max(0.0, results - given)
    return given + results


def _moved_by_slice(operation: Operation, operands: list[Operation]) -> float:
    # The results of an asynchronous one begin with its operands.
    number = len(operands) if operation.opcode.endswith("-start") else 0
    piece = operation.results[number]
    read = piece.bytes if _size(operands[0].results) else 0.0
    starts = _size(array for each in operands[1:] for array in each.results)
    return read + starts + _size([piece])


def _read_by_fused(fused: Computation, operands: list[Operation]) -> float:
    users: dict[str, list[Operation]] = {}
    for each in fused.operations.values():
        for name in each.operands:
            users.setdefault(name, []).append(each)
    total = 0.0
    for each in fused.operations.values():
        if each.opcode == "parameter" and each.number is not None:
            whole = _size(operands[each.number].results)
            total += min(whole, _read_of(each, users, whole))
    return total


def _written_by_fused(fused: Computation, caller: Operation) -> float:
    total = 0.0
    made = _results_of(fused, fused.operations[fused.root])
    for result, array in zip(made, caller.results, strict=False):
        if not array.in_main_memory:
            continue
        if result.opcode == "dynamic-update-slice":
            total += _size(list(fused.operands(result))[1].results)
        else:
            total += array.bytes
    return total


def _read_of(parameter: Operation, users: dict[str, list[Operation]], whole: float) -> float:
    """Returns how much of an operand a fused computation reads."""
    total = 0.0
    for user in users.get(parameter.name, []):
        is_first = user.operands[0] == parameter.name
        if user.opcode in _VIEWS:
            total += _read_of(user, users, whole)
        elif user.opcode in _SLICES and is_first:
            total += sum(array.bytes for array in user.results)
        elif not (user.opcode == "dynamic-update-slice" and is_first):
            return whole
    return total


def _results_of(fused: Computation, operation: Operation) -> Iterator[Operation]:
    """Yields what a fused computation writes, one for each array of its result."""
    if operation.opcode == "tuple" or operation.opcode in _VIEWS:
        for each in fused.operands(operation):
            yield from _results_of(fused, each)
    else:
        yield operation


def _size(arrays: Iterable[Array]) -> float:
    return sum(array.bytes for array in arrays if array.in_main_memory)
