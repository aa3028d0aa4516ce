"""The figures of `jaxformer preflight` as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]

_GIB = 2**30
_MOVED_MOST = 3
_PREFIXES = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "u": 1e-6}


def describe(report: Report) -> str:
    """Returns all lines; the first goes on after the config's name."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    machine, peaks = report["machine"], report["machine"]["peaks"]
    mesh = ", ".join(f"{axis} {size}" for axis, size in report["mesh"].items())
    yield f"{machine['name']}: {machine['devices']} x {machine['kind']}, mesh {mesh}"
    if machine["memory"] is not None:
        yield f"memory       {machine['memory'] / _GIB:.2f} GiB a device"
    if peaks:
        yield (
            f"peaks        a chip: {peaks['flops'] / 1e12:,.0f} TFLOP/s, memory "
            f"{peaks['bandwidth'] / 1e9:,.0f} GB/s, links {peaks['link'] / 1e9:,.0f} GB/s each way "
            f"({machine['source']})"
        )
    else:
        yield "peaks        none are known of this device: times are left out"
    yield f"model        {report['parameters']:,} parameters"
    for step in report["train"]:
        shape = step["shape"]
        yield ""
        filled = shape["rows"] - step["planned_rows"]
        padding = f", {filled} of these rows are filling" if filled else ""
        yield (
            f"train step   {shape['rows']} x ({shape['source']} + {shape['target']}), rows x "
            f"source + target slots{padding}"
        )
        yield from _program(step)
    if search := report["search"]:
        yield ""
        yield (
            f"search       {search['shape']['rows']} x {search['shape']['source']}, "
            f"{search['num_beams']} beams, at most {search['positions']} positions"
        )
        yield from _program(search)
        if search.get("position"):
            yield "  of it, one position:"
            yield from _costs(search["position"])
    yield ""
    yield from _whole_run(report["run"])
    verdict = report["verdict"]
    yield f"verdict      {'fits' if verdict['fits'] else 'DOES NOT FIT'}"
    yield from (f"             {change}" for change in verdict["advice"])


def _program(found: Report) -> Iterator[str]:
    memory = dict(found["memory"])
    total = memory.pop("total")
    parts = ", ".join(f"{_NAMES[name]} {size / _GIB:.3f}" for name, size in memory.items())
    whole = "more than there is" if total is None else f"{total / _GIB:.3f} GiB a device"
    yield f"  memory     {whole}: {parts}"
    if "flops" in found:
        yield f"  compiled   in {found['compile_seconds']:.0f} s"
        yield from _costs(found)


_NAMES = {
    "parameters": "parameters",
    "optimizer": "optimiser",
    "temporaries": "activations and temporaries",
    "other": "batch, code and other",
}


def _costs(found: Report) -> Iterator[str]:
    yield f"  work       {_amount(found['flops'], 'FLOP')}, {_amount(found['bytes'], 'B')} a device"
    for each in found["moved"][:_MOVED_MOST]:
        share = each["bytes"] / found["bytes"]
        yield f"  moved      {share:.0%}: {each['origin']}, {_amount(each['bytes'], 'B')}"
    for each in found["collectives"]:
        yield (
            f"  exchange   {each['kind']} x {each['count']:,} among {each['devices']}: "
            f"{_amount(each['bytes'], 'B')}, at least {_amount(each['sent'], 'B')} sent"
        )
    if bound := found["bound"]:
        names = ("products", "memory", "exchange")
        parts = ", ".join(f"{name} {_amount(bound[name], 's')}" for name in names)
        yield (
            f"  time       at least {_amount(bound['seconds'], 's')}, bound by {bound['by']} "
            f"({parts})"
        )


def _whole_run(run: Report | None) -> Iterator[str]:
    if run is None:
        return
    share = f"{run['usual_share']:.0%}"
    yield (
        f"speed        at most {run['target_tokens_per_second']:,.0f} target tokens a second; "
        f"{run['usual_target_tokens_per_second']:,.0f} at {share} of that"
    )
    yield (
        f"whole run    {run['num_steps']:,} such steps: at least {run['hours']:.3g} hours; "
        f"{run['usual_hours']:.3g} at {share} of the speed"
    )


def _amount(value: float, unit: str) -> str:
    """Returns three digits with a prefix: 23.6 MFLOP, 1.25 ms."""
    for prefix, size in _PREFIXES.items():
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value / 1e-9:.3g} n{unit}"
