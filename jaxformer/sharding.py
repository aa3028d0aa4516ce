"""Where the arrays of a training lie on a mesh of devices, and the model's `Layout` on it.

A mesh has three axes, each of one device or more:

    data    rows of a batch are spread, parameters are copies
    fsdp    rows are spread; parameters and optimiser state are cut, and gathered when they are used
    tensor  heads, the inner width and the vocabulary are cut, with what is computed of them

Axes of arrays have names, and `RULES` says over which axes of the mesh a name is spread. Nothing is
spread or copied in silence: a name without a rule, an axis of the mesh used twice, and a size that
does not divide are errors that name the array.

Everything here is made of shapes and devices alone, so that it does for devices that are not there
(`jax.experimental.topologies`), too.
"""

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxformer.model.layout import ALONE, Layout

Axes = tuple[str | None, ...]
"""A name for each axis of an array; None for one that is whole on every device."""

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    # Parameters where they are kept. Within a tensor's share the pieces that fsdp gathers are next
    # to each other, or gathering them would change the order of the vocabulary.
    "vocab": ("tensor", "fsdp"),
    "model": ("fsdp",),
    # Both parameters and what is computed of them.
    "heads": ("tensor",),
    "inner": ("tensor",),
    # The shared table where it is used.
    "gathered_vocab": ("tensor",),
}
"""Name of an array's axis -> axes of the mesh that it is spread over, the first the outermost."""

PARAMETER_AXES: Mapping[str, Axes] = {
    # Over the vocabulary: cut across d_model it would have to be laid out anew for the logits.
    "embedding.table": ("vocab", None),
    "*_positions.table": (None, None),
    "*.query.kernel": ("model", "heads", None),
    "*.key.kernel": ("model", "heads", None),
    "*.value.kernel": ("model", "heads", None),
    "*.out.kernel": ("heads", None, "model"),
    "*.query.bias": ("heads", None),
    "*.key.bias": ("heads", None),
    "*.value.bias": ("heads", None),
    "*.out.bias": (None,),
    "*.inner.kernel": ("model", "inner"),
    "*.inner.bias": ("inner",),
    "*.outer.kernel": ("inner", "model"),
    "*.outer.bias": (None,),
    "*norm.scale": (None,),
    "*norm.bias": (None,),
}
"""Pattern of a parameter's dotted path -> its axes; the first pattern that fits is taken."""

_AXES = ("data", "fsdp", "tensor")
_ROWS = RULES["batch"]
_FIXES = {
    "vocab": "Set model.vocab_multiple to a multiple of {}",
    "model": "Set model.d_model to a multiple of {}",
    "heads": "Set model.num_heads to a multiple of {}",
    "inner": "Set model.d_ff to a multiple of {}",
    "batch": "Fill the batch up to a multiple of {} rows",
}


def make_mesh(
    data: int, fsdp: int, tensor: int, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Returns the mesh of all devices with the axes "data", "fsdp" and "tensor".

    Neighbours on `tensor`, which have the most to tell each other, are the nearest devices.

    Args:
      data, fsdp, tensor: devices along that axis; -1, for one of them, is what the others leave.
      devices: all there are, of all processes, if None; those of a topology will do.

    Raises: ValueError if they are not sizes, or do not come out at the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = _sizes(data, fsdp, tensor, len(devices))
    # An axis of a slice may have to be split: 4 of the 16 x 16 chips of one are no side of it.
    placed = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(placed, _AXES, axis_types=(AxisType.Auto,) * len(_AXES))


def platform_of(mesh: Mesh) -> str:
    """Returns what the mesh's devices are: "cpu", "gpu" or "tpu", as of `jax.Device`."""
    return mesh.devices.flat[0].platform


def make_abstract_mesh(data: int, fsdp: int, tensor: int, num_devices: int) -> AbstractMesh:
    """Returns the mesh that `make_mesh` would give of devices that are elsewhere.

    Raises: ValueError as `make_mesh`.
    """
    sizes = _sizes(data, fsdp, tensor, num_devices)
    return AbstractMesh(sizes, _AXES, axis_types=(AxisType.Auto,) * len(_AXES))


def _sizes(data: int, fsdp: int, tensor: int, num_devices: int) -> tuple[int, ...]:
    sizes = dict(zip(_AXES, (data, fsdp, tensor), strict=True))
    told = ", ".join(f"parallel.{name}={size}" for name, size in sizes.items())
    open_axes = [name for name, size in sizes.items() if size == -1]
    if len(open_axes) > 1 or any(size < 1 for size in sizes.values() if size != -1):
        raise ValueError(
            f"{told} is not a mesh. Set each to 1 or more, and at most one to -1, for all the "
            "devices that the others leave."
        )
    given = math.prod(size for size in sizes.values() if size != -1)
    if open_axes and num_devices % given == 0:
        sizes[open_axes[0]] = num_devices // given
    elif given != num_devices or open_axes:
        wanted = f"a multiple of {given} devices" if open_axes else f"{given} devices"
        raise ValueError(
            f"{told} needs {wanted}, and there are {num_devices}. Set them so that their product "
            "is the number of devices, one of them to -1 for what the others leave."
        )
    return tuple(sizes.values())


def num_shares(mesh: Mesh) -> int:
    """Returns how many shares the rows of a batch are spread over: data * fsdp."""
    return math.prod(mesh.shape[axis] for axis in _ROWS)


def state_shardings(
    state_shapes: Any, mesh: Mesh | AbstractMesh, axes: Mapping[str, Axes] = PARAMETER_AXES
) -> Any:
    """Returns where every leaf of a training state lies, a tree of the same structure.

    An optimiser's leaf lies as the parameter does whose path its own path ends with. Scalars are
    copies, and so is everything where all devices are on `data`. Trees of parameters alone will do,
    too.

    Args:
      state_shapes: leaves with a shape (`jax.eval_shape`).
      axes: as PARAMETER_AXES; add those of an attention that has parameters of its own.

    Raises: ValueError, naming the leaf, if it has no axes or other than its rank has, if a name has
      no rule, if two of its axes are spread over the same axis of the mesh, or if a size does not
      divide.
    """
    is_cut = mesh.shape["fsdp"] * mesh.shape["tensor"] > 1

    def sharding_of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not leaf.shape or not is_cut:
            return copies(mesh)
        return NamedSharding(mesh, _spec(name, leaf.shape, _axes_of(name, leaf.shape, axes), mesh))

    return jax.tree_util.tree_map_with_path(sharding_of, state_shapes)


def batch_shardings(mesh: Mesh) -> dict[str, NamedSharding]:
    """Returns where the arrays of a batch lie: their rows are spread over `data` and `fsdp`."""
    rows = NamedSharding(mesh, PartitionSpec(_ROWS))
    return {"source_BS": rows, "target_BT": rows}


def place_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns the batch on the devices of the mesh, each with its share of the rows.

    Of several processes each has the whole batch, and gives what its own devices need.

    Raises: ValueError if the rows are not a multiple of `num_shares`.
    """
    sharding = NamedSharding(mesh, PartitionSpec(_ROWS))
    if not mesh.is_multi_process:
        return jax.device_put(dict(batch), sharding)
    return {
        name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__)
        for name, array in batch.items()
    }


def place_copies(tree: Any, mesh: Mesh) -> Any:
    """Returns a tree of arrays with a copy of each on every device of the mesh.

    Of several processes each has the whole tree.
    """
    if not mesh.is_multi_process:
        return jax.device_put(tree, copies(mesh))

    def place(leaf: Any) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, copies(mesh), whole.__getitem__)

    return jax.tree.map(place, tree)


def own_shares(mesh: Mesh) -> list[int]:
    """Returns which of the `num_shares` shares of a batch's rows this process's devices have."""
    places = NamedSharding(mesh, PartitionSpec(_ROWS)).devices_indices_map((num_shares(mesh),))
    return sorted(
        {
            rows.indices(num_shares(mesh))[0]
            for device, (rows,) in places.items()
            if device.process_index == jax.process_index()
        }
    )


def place_own_rows(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns the batch of which this process has packed the rows of its `own_shares` alone."""
    shares, of = own_shares(mesh), num_shares(mesh)
    if len(shares) == of:
        return place_batch(batch, mesh)
    sharding = NamedSharding(mesh, PartitionSpec(_ROWS))

    def place(rows: Any) -> jax.Array:
        each = len(rows) // len(shares)

        def take(index: tuple[slice, ...] | None) -> Any:
            share = (index[0].start or 0) // each if index else 0
            first = shares.index(share) * each
            return rows[first : first + each]

        return jax.make_array_from_callback((each * of, *rows.shape[1:]), sharding, take)

    return {name: place(rows) for name, rows in batch.items()}


def fetch(array: jax.Array) -> np.ndarray:
    """Returns the whole array, which may lie on the devices of several processes.

    All of them have to call this.
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


def copies(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the sharding of what every device of the mesh has a copy of."""
    return NamedSharding(mesh, PartitionSpec())


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Returns the shapes with their places, for a state to restore or a step to compile ahead."""
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        shardings,
    )


def make_layout(mesh: Mesh) -> Layout:
    """Returns the layout of a model whose parameters and batches lie as said here.

    Its `constrain` raises ValueError when traced, as `state_shardings`.
    """
    if mesh.size == 1:
        return ALONE

    def constrain(array: jax.Array, *axes: str | None) -> jax.Array:
        whole = (*axes, *(None,) * (array.ndim - len(axes)))
        spec = _spec("An activation", array.shape, whole, mesh)
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))

    def sum_over_rows(function: Callable[[Any, Any], Any], rows: Any, shared: Any) -> Any:
        return jax.shard_map(
            lambda rows, shared: jax.lax.psum(function(rows, shared), _ROWS),
            mesh=mesh,
            in_specs=(PartitionSpec(_ROWS), PartitionSpec()),
            out_specs=PartitionSpec(),
            # What is cut over `tensor` stays so within the function.
            axis_names=set(_ROWS if mesh.shape["tensor"] > 1 else _AXES),
            # It would ask the function's scans to say which of their sums differ between devices.
            check_vma=False,
        )(rows, shared)

    def by_row_and_head(attend: Callable[..., Any]) -> Callable[..., Any]:
        def attend_where_it_lies(query_BTHK: jax.Array, *others: Any) -> tuple[jax.Array, None]:
            heads = PartitionSpec(_ROWS, None, RULES["heads"])

            def spec(array: jax.Array) -> PartitionSpec:
                if array.ndim == query_BTHK.ndim:
                    return heads
                # What holds for every row has one.
                return PartitionSpec(_ROWS if len(array) == len(query_BTHK) else None)

            arguments = query_BTHK, *others
            return jax.shard_map(
                lambda *arguments: attend(*arguments)[0],
                mesh=mesh,
                in_specs=jax.tree.map(spec, arguments),
                out_specs=heads,
                check_vma=False,
            )(*arguments), None

        return attend_where_it_lies

    return Layout(
        constrain=constrain,
        sum_over_rows=ALONE.sum_over_rows if num_shares(mesh) == 1 else sum_over_rows,
        by_row_and_head=by_row_and_head,
    )


def jit_step(
    step: Callable[[Any, Any], tuple[Any, Any]],
    shardings: Any,
    mesh: Mesh,
    *,
    donate: bool = True,
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Compiles step(state, batch) -> (state, metrics) for the mesh, once a shape of the batch.

    Args:
      step: of a model with the mesh's layout.
      shardings: of the state, see `state_shardings`.
      donate: whether the state that is given may be overwritten.
    """
    return jax.jit(
        step,
        in_shardings=(shardings, batch_shardings(mesh)),
        out_shardings=(shardings, copies(mesh)),
        donate_argnums=0 if donate else (),
    )


def _axes_of(path: str, shape: tuple[int, ...], axes: Mapping[str, Axes]) -> Axes:
    for pattern, names in axes.items():
        # The path of an optimiser's leaf has the parameter's at its end.
        if fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*.{pattern}"):
            return names
    raise ValueError(
        f"{path} of shape {shape} is in no pattern of axes, so that it is not known how it is to "
        "lie on the mesh. Give its axes to jaxformer.sharding.state_shardings, or set "
        "parallel.fsdp=1 and parallel.tensor=1."
    )


def _spec(
    what: str, shape: tuple[int, ...], names: Axes, mesh: Mesh | AbstractMesh
) -> PartitionSpec:
    """Returns what an array's axes are spread over, after checking it."""
    told = f"{what} of shape {shape} with axes ({', '.join(map(str, names))})"
    if len(names) != len(shape):
        raise ValueError(f"{told} has {len(shape)} axes. Name each of them.")
    taken: set[str] = set()
    spec = []
    for number, (size, name) in enumerate(zip(shape, names, strict=True)):
        if name is None:
            spec.append(None)
            continue
        if name not in RULES:
            raise ValueError(f"{told}: there is no axis {name!r}. Name one of {', '.join(RULES)}.")
        over = RULES[name]
        if twice := taken.intersection(over):
            raise ValueError(
                f"{told} would be spread over {', '.join(sorted(twice))} twice. Name another axis, "
                "or None for one that is whole on every device."
            )
        taken.update(over)
        devices = math.prod(mesh.shape[axis] for axis in over)
        if size % devices:
            product = " * ".join(f"parallel.{axis}" for axis in over)
            fix = _FIXES.get(name, "Set the size to a multiple of {}").format(devices)
            raise ValueError(
                f"{told}: axis {number} of {size} is not divisible by {product} = {devices}. "
                f"{fix}, or choose another mesh."
            )
        spec.append(over)
    return PartitionSpec(*spec)
