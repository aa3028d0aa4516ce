"""What to change in a config whose training does not fit into a device's memory."""

import math


def advise(
    *,
    memory: int,
    needed: int | None,
    parameters: int,
    optimizer: int,
    remat: str,
    scan_layers: bool,
    accumulate: int,
    tokens: int,
    num_devices: int,
    fsdp: int,
) -> list[str]:
    """Returns changes, each a sentence, the one that costs the least time first.

    Args:
      memory: bytes of a device.
      needed: bytes that the step takes, None if that is not known.
      parameters, optimizer: bytes of those on a device; gradients take what parameters do.
      remat, scan_layers, accumulate: of the settings, as they are.
      tokens: the budget of a batch on either side.
      fsdp: devices over which parameters and optimiser are cut.
    """
    changes = []
    lasting = 2 * parameters + optimizer
    if lasting > memory // 2 and fsdp < num_devices:
        changes.append(
            f"Cut parameters, gradients and optimiser, {lasting / 2**30:.2f} GiB on each device, "
            "into shares: --config.parallel.data=1 --config.parallel.fsdp=-1."
        )
    if lasting > memory:
        if fsdp >= num_devices:
            changes.append("Take a larger slice, a chip with more memory, or a smaller model.")
        return changes
    # Without a loop some compilers keep what is computed again (docs/remat.md).
    loop = "" if scan_layers else " --config.model.scan_layers=true"
    if remat == "none":
        changes.append(f"Keep less of the forward pass: --config.model.remat=dots{loop}.")
    if remat != "full":
        changes.append(
            f"Compute whole layers twice, a third more operations: --config.model.remat=full{loop}."
        )
    # What grows with the batch must shrink to what else is free.
    parts = 2
    if needed is not None and needed > memory:
        parts = max(2, math.ceil((needed - lasting) / (memory - lasting)))
    changes += [
        "Work a batch off in parts, with the same result: "
        f"--config.train.accumulate={accumulate * parts}.",
        "Take smaller batches, which learn otherwise: --config.data.source_tokens="
        f"{tokens // parts} --config.data.target_tokens={tokens // parts}.",
    ]
    return changes
