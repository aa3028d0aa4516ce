"""Whether a checkpoint holds the arrays that are expected, before Orbax says so on many pages."""

from typing import Any

import jax


def as_structs(tree: Any) -> Any:
    """Returns shape, dtype and sharding of each leaf; the first local device where it has none."""
    return jax.tree.map(_as_struct, tree)


def find_difference(stored: Any, expected: Any, part: str = "") -> str | None:
    """Returns the first difference, as what the checkpoint has; None if there is none.

    Args:
      stored: what Orbax says of the arrays, as dicts and lists of leaves with shape and dtype.
      expected: a pytree of `as_structs`.
      part: what is stored counts if its dotted path begins with this.
    """
    stored_leaves = _leaves(stored)
    expected_leaves = {
        path: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        for path, leaf in _leaves(expected).items()
    }
    for path, leaf in expected_leaves.items():
        if path not in stored_leaves:
            return f"no {path}, which is expected"
        found, wanted = _describe(stored_leaves[path]), _describe(leaf)
        if found != wanted:
            return f"{path} as {found}, but {wanted} is expected"
    for path in stored_leaves:
        if path not in expected_leaves and path.startswith(part):
            return f"{path}, which is not expected"
    return None


def _as_struct(leaf: Any) -> jax.ShapeDtypeStruct:
    # Without a sharding Orbax would look for the devices of the machine that saved.
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _leaves(tree: Any) -> dict[str, Any]:
    """Dotted path -> leaf; the same for a state and for Orbax's dicts and lists in its place."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _describe(leaf: Any) -> str:
    return f"{jax.numpy.dtype(leaf.dtype).name}[{', '.join(map(str, leaf.shape))}]"
