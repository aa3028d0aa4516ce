"""Parameters as safetensors: they come back, and have the names and shapes of docs/export.md."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open

from jaxformer.io.export_safetensors import load, save
from jaxformer.model import Learned, Transformer, pre_norm

DOC = Path(__file__).resolve().parents[2] / "docs" / "export.md"
AXES = {"W": 23, "D": 6, "F": 13, "H": 2, "K": 5, "V": 3, "P": 17}
MODEL = Transformer(
    vocab_size=19, d_model=6, d_ff=13, num_heads=2, d_k=5, d_v=3, num_encoder_layers=1,
    num_decoder_layers=2, vocab_multiple=23, max_length=17, residual=pre_norm, positions=Learned,
    attention_bias=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), *[jnp.ones((1, 2), jnp.int32)] * 2)
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), shapes["params"]
    )


def test_what_is_saved_is_loaded(params, tmp_path):
    path = tmp_path / "model.safetensors"
    # As they are after averaging; one of them not in the order of C.
    given = jax.tree.map(jnp.asarray, params)
    given["embedding"]["table"] = np.asfortranarray(params["embedding"]["table"])
    save(given, path, {"checkpoints": "3,2"})
    found = load(path)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    with safe_open(path, "np") as file:
        assert file.metadata() == {"checkpoints": "3,2"}


def test_names_and_shapes_are_those_of_the_docs(params):
    rows = re.findall(r"^\| `(\S+)` \| ([A-Z](?:, [A-Z])*) \|", DOC.read_text("utf-8"), re.M)
    documented = {name: tuple(AXES[axis] for axis in axes.split(", ")) for name, axes in rows}
    assert len(documented) == len(rows)
    found = {}
    for name, leaf in flatten_dict(params, sep=".").items():
        name = re.sub(r"^(encoder|decoder)\.(?!layer_\d+\.cross_attention_norm)", "STACK.", name)
        name = re.sub(r"layer_\d+", "layer_N", name).replace("cross_attention.", "attention.")
        found[name] = leaf.shape
    assert found == documented


def test_a_file_that_is_none(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="is not a safetensors file, or it is damaged"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")
