"""From what the processes report to the figures of the record, and to its one line."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmarks.sizes import SIZES, Size
from experiments.benchmarks.summary import best, ratios, spread
from jaxformer.model.counting import forward_flops

Results = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""group -> variant -> what its process reported in each pass."""

OURS = "jaxformer"
LINE = (
    *("train_tiny_vs_torch", "train_base_vs_torch", "decode_vs_ctranslate2"),
    *("mfu_tiny", "mfu_base", "padding", "first_step_warm_s"),
)


def summarise(
    results: Results, ceiling: Mapping[str, Any], sizes: Sequence[str]
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Returns (the figures of every group, the line of the most important ones).

    A figure of the line is None where it was not measured. Training is compared under the
    allocator with which PyTorch is fastest, our fastest variant with its fastest.
    """
    summary: dict[str, Any] = {"ceiling": ceilings(ceiling)}
    for group, variants in results.items():
        if group.startswith("train "):
            size = SIZES[group.split()[1]]
            summary[group] = of_training(variants, size, summary["ceiling"])
        elif group.startswith(("decode ", "greedy ")):
            summary[group] = of_decoding(variants)
        else:
            shares = [found["share"] for found in variants[OURS]]
            summary[group] = {"share": spread(shares)}
    line: dict[str, float | None] = dict.fromkeys(LINE)
    for size in sizes:
        group = decisive(summary, f"train {size} ")
        if f"mfu_{size}" not in line or group is None:
            continue
        found = summary[group]
        line[f"train_{size}_vs_torch"] = found.get("against_torch", {}).get("median")
        variant = found["variants"][found["fastest"][OURS]]
        line[f"mfu_{size}"] = variant["utilisation"]
        if size == "tiny":
            line["first_step_warm_s"] = variant["first_step_warm_seconds"]
    group = decisive(summary, "decode tiny ")
    if group is not None:
        line["decode_vs_ctranslate2"] = summary[group].get("against_ctranslate2", {}).get("median")
    return summary, line


def decisive(summary: Mapping[str, Any], prefix: str) -> str | None:
    """Returns the group with the fastest peer, or with our fastest variant where there is none."""
    groups = [group for group in summary if group.startswith(prefix)]

    def rate(group: str) -> tuple[bool, float]:
        fastest, variants = summary[group]["fastest"], summary[group]["variants"]
        peer = fastest.get("torch")
        return peer is not None, variants[peer or fastest[OURS]]["rate"]["median"]

    return max(groups, key=rate, default=None)


def ceilings(found: Mapping[str, Any]) -> dict[str, float]:
    """Returns dtype -> operations a second of the fastest product of either library."""
    rates: dict[str, float] = {}
    for library in found.values():
        for dtype, shapes in library.items():
            rates[dtype] = max(rates.get(dtype, 0.0), *shapes.values())
    return rates


def model_sizes(size: Size) -> dict[str, Any]:
    """Returns the sizes of a model as `jaxformer.model.counting` takes them."""
    d_k = size.d_model // size.num_heads
    return {
        "vocab_size": size.vocab_size,
        "d_model": size.d_model,
        "d_ff": size.d_ff,
        "num_heads": size.num_heads,
        "d_k": d_k,
        "d_v": d_k,
        "num_encoder_layers": size.layers,
        "num_decoder_layers": size.layers,
    }


def training_flops(size: Size) -> float:
    """Returns the operations of a training step a target token: three forward passes' worth."""
    forward = forward_flops(
        **model_sizes(size), source_length=size.length, target_length=size.length
    )
    return 3 * forward / size.length


def of_training(
    variants: Mapping[str, Sequence[Mapping[str, Any]]], size: Size, ceiling: Mapping[str, float]
) -> dict[str, Any]:
    """Returns the figures of a group of training steps.

    Of each variant: `rate`, target tokens a second; `utilisation`, of the fastest matrix products
    of its own type, and `utilisation_float32`, of those in float32; memory in bytes; the first
    step's seconds, from the start of the process, `cold` in the first pass and `warm` (the median)
    in the others, or in a start after the only one.
    """
    figures = {}
    for name, passes in variants.items():
        rate = spread([found["tokens_per_second"] for found in passes])
        done = rate["median"] * training_flops(size)
        cold, *warm = (found["first_step_seconds"] for found in passes)
        again = "first_step_again_seconds"
        warm += [found[again] for found in passes if again in found]
        figures[name] = {
            "rate": rate,
            "utilisation": done / ceiling.get(name.split()[-1], math.inf),
            "utilisation_float32": done / ceiling.get("float32", math.inf),
            "peak_bytes": spread([found["peak_bytes"] for found in passes]),
            "peak_bytes_steps": spread([found["peak_bytes_steps"] for found in passes]),
            "first_step_cold_seconds": cold,
            "first_step_warm_seconds": spread(warm)["median"] if warm else None,
        }
    rates = {
        name: [found["tokens_per_second"] for found in passes] for name, passes in variants.items()
    }
    summary = compare(figures, rates, {"torch": ("PyTorch", "Marian")})
    if "torch" in summary["fastest"]:
        summary["memory_against_torch"] = ratios(
            *(
                [found["peak_bytes_steps"] for found in variants[summary["fastest"][side]]]
                for side in (OURS, "torch")
            )
        )
    for dtype in ("float32", "bfloat16"):
        # The fastest with products of this type, of ours and of PyTorch's own Transformer.
        of_type = {name: rate for name, rate in rates.items() if name.split()[-1] == dtype}
        ours, theirs = (
            best({name: rate for name, rate in of_type.items() if name.startswith(side)})
            for side in (OURS, "PyTorch")
        )
        if ours is not None and theirs is not None:
            summary[f"against_torch_{dtype}"] = ratios(rates[ours], rates[theirs])
            summary[f"memory_against_torch_{dtype}"] = ratios(
                *(
                    [found["peak_bytes_steps"] for found in variants[name]]
                    for name in (ours, theirs)
                )
            )
    return summary


def of_decoding(variants: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns the figures of a group of decoders; `rate` is in sentences a second."""
    rates = {
        name: [found["sentences_per_second"] for found in passes]
        for name, passes in variants.items()
    }
    figures = {
        name: {
            "rate": spread(rates[name]),
            "peak_bytes": spread([found["peak_bytes"] for found in passes]),
        }
        for name, passes in variants.items()
    }
    return compare(figures, rates, {"ctranslate2": ("CTranslate2",)})


def compare(
    figures: Mapping[str, Any],
    rates: Mapping[str, Sequence[float]],
    peers: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Returns figures, the fastest variant of each side, and the ratio of ours to each peer's.

    Args:
      peers: name -> how its variants' names begin.
    """
    fastest = {
        side: best({name: rates[name] for name in rates if name.startswith(starts)})
        for side, starts in {OURS: (OURS,), **peers}.items()
    }
    fastest = {side: name for side, name in fastest.items() if name is not None}
    against = {
        f"against_{side}": ratios(rates[fastest[OURS]], rates[fastest[side]])
        for side in peers
        if side in fastest
    }
    return {"variants": dict(figures), "fastest": fastest, **against}
