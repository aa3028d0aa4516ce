"""Many trainings in one program: a pure step, mapped over a population of states.

A member is a training of its own: its state holds its parameters, its key and its hyper-parameters
(`Hyper`), and it sees the batches that it would see alone. Stacked trees have one axis more, in
front of each leaf's own: the population's, which is sharded over devices where there are several.
No member reads another's numbers, so one that has become infinite or NaN leaves the rest alone.

Members at the same step need batches of one shape. The batching plan sees to it: the order of
shapes in an epoch is the same for every seed. Nothing is padded for the population's sake.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "population"


def make_mesh(members: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh, of one axis, that a population is sharded over.

    Every device has equally many rows, as few as possible, and no more devices are taken than that
    needs. Rows that are left over repeat the last member and are thrown away: 5 members on 4
    devices are 6 rows on 3. To use only as many devices as divide the members would cost more time.

    Args:
      devices: to choose from; None for all of this process.

    Raises: ValueError if there is no member.
    """
    if members < 1:
        raise ValueError(f"A population of {members} members is none. Give it 1 or more.")
    devices = jax.local_devices() if devices is None else devices
    rows = -(-members // len(devices))
    return Mesh(np.array(devices[: -(-members // rows)]), (_AXIS,))


def num_rows(members: int, mesh: Mesh) -> int:
    """Returns the length of the population's axis: the members, filled up to even shares."""
    return -(-members // mesh.size) * mesh.size


def stack(trees: Sequence[Any], mesh: Mesh, rows: int) -> Any:
    """Returns the members' trees of arrays as one, sharded over the mesh.

    Each device gets only its own members, so that none has to hold all.

    Args:
      rows: of the population's axis, see `num_rows`; those past the last member repeat it.
    """
    share = rows // mesh.size
    trees = [*trees, *[trees[-1]] * (rows - len(trees))]

    def join(*leaves: jax.Array) -> jax.Array:
        parts = [
            jnp.stack(jax.device_put(list(leaves[first : first + share]), device))
            for first, device in zip(range(0, rows, share), mesh.devices.flat, strict=True)
        ]
        shape = (rows, *leaves[0].shape)
        return jax.make_array_from_single_device_arrays(shape, _sharding(mesh), parts)

    return jax.tree.map(join, *trees)


def unstack(tree: Any, members: Sequence[int]) -> list[Any]:
    """Returns the trees of the given rows of a stacked one, each on the device where it lies."""

    def take(leaf: jax.Array, row: int) -> jax.Array:
        for shard in leaf.addressable_shards:
            start, stop, _ = shard.index[0].indices(leaf.shape[0])
            if start <= row < stop:
                return shard.data[row - start]
        raise ValueError(f"A population of {leaf.shape[0]} rows has no row {row}. Name another.")

    return [jax.tree.map(lambda leaf, row=row: take(leaf, row), tree) for row in members]


def device_of(row: int, mesh: Mesh, rows: int) -> jax.Device:
    """Returns the device on which a row of the population's axis lies."""
    return mesh.devices.flat[row // (rows // mesh.size)]


def make_population_step(
    step: Callable[[Any, Any], tuple[Any, Any]], mesh: Mesh
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Returns step(states, batches) -> (states, metrics), all of them stacked; not yet compiled.

    The result of a member is that of `step` on its own state and batch, to rounding.

    Args:
      step: (state, batch) -> (state, metrics), such as `make_train_step` gives.
    """
    return _sharded(jax.vmap(step), mesh, (PartitionSpec(_AXIS), PartitionSpec(_AXIS)))


def make_population_eval(
    eval_step: Callable[[Any, Any], Any], mesh: Mesh
) -> Callable[[Any, Any], Any]:
    """Returns eval_step(params, batch) -> sums; parameters and sums stacked, one batch for all."""
    mapped = jax.vmap(eval_step, in_axes=(0, None))
    return _sharded(mapped, mesh, (PartitionSpec(_AXIS), PartitionSpec()))


def _sharded(function: Callable[..., Any], mesh: Mesh, in_specs: tuple[PartitionSpec, ...]) -> Any:
    """Runs each device's share of the members on it, with nothing said between devices."""
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=in_specs,
        out_specs=PartitionSpec(_AXIS),
        # It would ask the step's scans to say which of their sums differ between devices.
        check_vma=False,
    )


def _sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(_AXIS))
