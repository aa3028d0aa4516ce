"""What remat and a loop over layers do to a training step's memory and to its compilation.

    python experiments/benchmarks/layers.py --config=configs/base.py --out=layers.json
    python experiments/benchmarks/layers.py --config=configs/big.py --topology=v5e:2x2 --out=b.json

Compiles the step of every form, for the dearest shape of batches, and runs none. Memory is what the
compiler says; seconds are of processor time, tracing and compiling, one form after another in one
process, without a cache.
"""

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from jaxformer.cli import config as config_lib
from jaxformer.cli import settings
from jaxformer.cli.mistakes import Mistake

FORMS = list(itertools.product((False, True), ("none", "dots", "full")))


def main() -> int:
    """Compiles all forms, prints a table, and writes the record; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="", help="a slice of TPUs instead of this host")
    parser.add_argument("--out", required=True, help="file for the record, JSON")
    spec, assignments, rest = config_lib.split_arguments(sys.argv[1:])
    chosen = parser.parse_args(rest)
    tree = config_lib.load(spec)
    config_lib.override(tree, assignments)
    settings.check(tree.to_dict())
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    if chosen.topology:
        os.environ["JAX_PLATFORMS"] = "cpu"
    rows = measure(tree.to_dict(), chosen.topology)
    asked = {"config": spec, "overrides": assignments, "topology": chosen.topology}
    record = {"asked": asked, **rows}
    Path(chosen.out).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(config: dict[str, Any], topology: str) -> dict[str, Any]:
    """Returns the figures of every form, and of what they were compiled with."""
    from jaxformer.cli.examine import examine_training
    from jaxformer.io.environment import versions
    from jaxformer.run.machine import here, tpu_slice
    from jaxformer.sharding import make_mesh

    machine = tpu_slice(topology) if topology else here()
    mesh = make_mesh(**config["parallel"], devices=machine.devices)
    forms = []
    print("| layers | remat | activations and temporaries, GiB | TFLOP a device | CPU seconds |")
    print("| --- | --- | --- | --- | --- |")
    for scan, remat in FORMS:
        changed = {**config, "model": {**config["model"], "remat": remat, "scan_layers": scan}}
        before = time.process_time()
        (step,) = examine_training(changed, machine, mesh, all_shapes=False, say=lambda _: None)
        step["cpu_seconds"] = time.process_time() - before
        if "flops" not in step:
            print(f"| {'a loop' if scan else 'unrolled'} | {remat} | does not fit | | |")
        else:
            print(
                f"| {'a loop' if scan else 'unrolled'} | {remat} | "
                f"{step['memory']['temporaries'] / 2**30:.2f} | {step['flops'] / 1e12:.2f} | "
                f"{step['cpu_seconds']:.1f} |",
                flush=True,
            )
        forms.append({"scan_layers": scan, "remat": remat, **step})
    kind = machine.devices[0].device_kind
    return {
        "device": kind,
        "mesh": dict(mesh.shape),
        "forms": forms,
        "versions": versions(("jax", "jaxlib", "libtpu")),
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Mistake as mistake:
        sys.exit(str(mistake))
