"""Compiling a config's programs for a machine, and what follows from their figures."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxformer.cli import build
from jaxformer.cli.groundwork import abstract_batch, make_pure
from jaxformer.cli.mistakes import mistakes
from jaxformer.data.batching import possible_shapes
from jaxformer.data.pipeline import source_shape
from jaxformer.io.environment import versions
from jaxformer.run.advice import advise
from jaxformer.run.hlo_cost import Cost
from jaxformer.run.machine import Machine, here, tpu_slice
from jaxformer.run.preflight import (
    DoesNotFit,
    bound,
    bytes_a_device,
    compile_for,
)
from jaxformer.run.restoring import abstract_params, count_parameters
from jaxformer.run.translation import make_decode
from jaxformer.sharding import (
    batch_shardings,
    copies,
    jit_step,
    make_layout,
    make_mesh,
    num_shares,
    platform_of,
    state_shardings,
    with_shardings,
)
from jaxformer.train import Hyper

# What a good program reaches of a bound by published peaks, about.
USUAL_SHARE = 0.4

Report = dict[str, Any]
Say = Callable[[str], None]


def examine(
    config: build.Config, *, topology: str, all_shapes: bool, with_search: bool, say: Say
) -> Report:
    """Returns what a config's programs need on a machine: figures and a verdict, fit for JSON.

    Args:
      topology: name of a slice of TPUs; "" for the devices of this process.
      all_shapes: every shape of batches that a plan may choose, not just the dearest.
      with_search: the search of `evaluate` too.
      say: called with a line before each compilation.

    Raises: Mistake for what the user can mend.
    """
    with mistakes():
        machine = tpu_slice(topology) if topology else here()
        mesh = make_mesh(**config["parallel"], devices=machine.devices)
    steps = examine_training(config, machine, mesh, all_shapes=all_shapes, say=say)
    search = _examine_search(config, machine, say) if with_search else None
    return {
        "machine": _describe(machine),
        "mesh": dict(mesh.shape),
        "parameters": count_parameters(build.make_model(config, config["data"]["vocab_size"])),
        "train": steps,
        "search": search,
        "run": _whole_run(steps[0], config["train"]["num_steps"]),
        "verdict": _verdict(config, machine, mesh, steps, search),
        "config": config,
        "versions": versions((*_PACKAGES, "libtpu") if topology else _PACKAGES),
    }


def examine_training(
    config: build.Config, machine: Machine, mesh: Mesh, *, all_shapes: bool, say: Say
) -> list[Report]:
    """Compiles the training step, for one shape of batches or more, the dearest first.

    Raises: Mistake for what the user can mend.
    """
    data, accumulate = config["data"], config["train"]["accumulate"]
    with mistakes():
        model = build.make_model(config, data["vocab_size"]).clone(layout=make_layout(mesh))
        train_step, make_state = make_pure(config, model, platform_of(mesh))
        state = jax.eval_shape(make_state, np.int64(0), Hyper.create())
        shardings = state_shardings(state, mesh)
        shapes = possible_shapes(
            data["max_length"], data["source_tokens"], data["target_tokens"], accumulate
        )
    state = with_shardings(state, shardings)
    held = {"parameters": state.params, "optimizer": state.opt_state}
    step = jit_step(train_step, shardings, mesh)
    found = []
    for planned in shapes if all_shapes else shapes[:1]:
        shape = planned.filled(accumulate * num_shares(mesh))
        say(f"Compiling the training step for {shape.rows} x ({shape.source} + {shape.target})")
        batch = with_shardings(abstract_batch(shape), batch_shardings(mesh))
        with mistakes():
            figures = _examine(machine, held, step, state, batch)
        figures.pop("loops", None)
        found.append({"shape": shape._asdict(), "planned_rows": planned.rows, **figures})
    return found


# So many parts of a program are named that move the most bytes.
_MOVED_MOST = 10
_PACKAGES = ("jaxformer", "jax", "jaxlib", "flax")


def _examine(machine: Machine, held: Mapping[str, Any], function: Any, *arguments: Any) -> Report:
    """Compiles a program; returns its figures.

    Args:
      held: name -> shapes of what is among the arguments and told apart.
    """
    memory = {name: bytes_a_device(tree) for name, tree in held.items()}
    try:
        compiled = compile_for(function, *arguments)
    except DoesNotFit as error:
        return {"fits": False, "memory": {**memory, "total": error.needed}}
    other = compiled.arguments + compiled.results - sum(memory.values())
    return {
        "fits": machine.memory is None or compiled.memory <= machine.memory,
        "compile_seconds": compiled.seconds,
        "memory": {
            **memory,
            "temporaries": compiled.temporaries,
            "other": other + compiled.program,
            "total": compiled.memory,
        },
        **_cost(compiled.cost, machine),
        "loops": [_cost(loop, machine) for loop in compiled.cost.loops],
    }


def _cost(cost: Cost, machine: Machine) -> Report:
    least = bound(cost, machine)
    return {
        "flops": cost.flops,
        "bytes": cost.bytes,
        "moved": [
            {"origin": name, "bytes": moved}
            for name, moved in sorted(cost.bytes_by_origin.items(), key=lambda item: -item[1])
        ][:_MOVED_MOST],
        "collectives": [
            {**dataclasses.asdict(collective), **dataclasses.asdict(traffic)}
            for collective, traffic in sorted(
                cost.collectives.items(), key=lambda item: -item[1].bytes
            )
        ],
        "bound": least and {**dataclasses.asdict(least), "seconds": least.seconds, "by": least.by},
    }


def _examine_search(config: build.Config, machine: Machine, say: Say) -> Report:
    """Compiles the search that `evaluate` runs, for its widest batch."""
    settings = config["decode"]
    with mistakes():
        length_penalty = build.make_length_penalty(config)
    # As `evaluate` does: rows are spread, and each device has a copy of the parameters.
    mesh = make_mesh(-1, 1, 1, devices=machine.devices)
    model = build.make_model(config, config["data"]["vocab_size"])
    params = abstract_params(model)
    model = model.clone(layout=make_layout(mesh))
    params = with_shardings(params, jax.tree.map(lambda _: copies(mesh), params))
    rows, width = source_shape(
        config["data"]["max_length"], settings["batch_tokens"], num_shares(mesh)
    )
    say(f"Compiling the search for {rows} x {width}")
    decode = make_decode(
        model,
        num_beams=settings["num_beams"],
        alpha=settings["alpha"],
        extra_length=settings["extra_length"],
        length_penalty=length_penalty,
    )
    spread = batch_shardings(mesh)["source_BS"]
    source_BS = jax.ShapeDtypeStruct((rows, width), jnp.int32, sharding=spread)
    found = _examine(machine, {"parameters": params}, decode, params, source_BS)
    # The search goes on for so long as the sentences take: its loop is the one without an end.
    loops = found.pop("loops", [])
    return {
        "shape": {"rows": rows, "source": width},
        "num_beams": settings["num_beams"],
        "positions": width + settings["extra_length"],
        **found,
        "position": max(loops, key=lambda loop: loop["bytes"]) if loops else None,
    }


def _describe(machine: Machine) -> Report:
    chip = machine.chip
    return {
        "name": machine.name,
        "kind": machine.devices[0].device_kind,
        "devices": len(machine.devices),
        "chips": machine.chips,
        "memory": machine.memory,
        "peaks": chip and {name: getattr(chip, name) for name in ("flops", "bandwidth", "link")},
        "source": chip and chip.source,
    }


def _whole_run(step: Report, num_steps: int) -> Report | None:
    """Returns what follows of the dearest step for a run of which every step is one."""
    if not step.get("bound"):
        return None
    seconds = step["bound"]["seconds"]
    tokens = step["planned_rows"] * step["shape"]["target"]
    return {
        "num_steps": num_steps,
        "usual_share": USUAL_SHARE,
        "target_tokens_per_second": tokens / seconds,
        "usual_target_tokens_per_second": USUAL_SHARE * tokens / seconds,
        "hours": num_steps * seconds / 3600,
        "usual_hours": num_steps * seconds / USUAL_SHARE / 3600,
    }


def _verdict(
    config: build.Config, machine: Machine, mesh: Mesh, steps: list[Report], search: Report | None
) -> Report:
    lacking = [step for step in steps if not step["fits"]]
    advice = []
    if lacking:
        advice = advise(
            memory=machine.memory or 0,
            needed=lacking[0]["memory"]["total"],
            parameters=lacking[0]["memory"]["parameters"],
            optimizer=lacking[0]["memory"]["optimizer"],
            remat=config["model"]["remat"],
            scan_layers=config["model"]["scan_layers"],
            accumulate=config["train"]["accumulate"],
            tokens=config["data"]["target_tokens"],
            num_devices=len(machine.devices),
            fsdp=mesh.shape["fsdp"],
        )
    searches = search is None or search["fits"]
    if not searches:
        advice.append(
            f"Search in smaller batches: --config.decode.batch_tokens="
            f"{config['decode']['batch_tokens'] // 2}."
        )
    return {"fits": not lacking and searches, "advice": advice}
