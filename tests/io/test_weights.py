"""Tensors of another library as parameters of ours."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxformer.io.weights import fill, read_safetensors

SHAPES = {
    "dense": {"kernel": jax.ShapeDtypeStruct((5, 3), np.float32)},
    "heads": {"kernel": jax.ShapeDtypeStruct((5, 2, 7), np.float32)},
    "norm": {"scale": jax.ShapeDtypeStruct((5,), np.float32)},
}


def tensors():
    rng = np.random.default_rng(0)
    sizes = {"dense.kernel": (3, 5), "heads.kernel": (14, 5), "norm.scale": (5,)}
    return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def test_a_file_is_read(tmp_path):
    written = {**tensors(), "half": np.ones((2, 3), np.float16), "places": np.arange(4)}
    safetensors.numpy.save_file(written, tmp_path / "a.safetensors")
    found = read_safetensors(tmp_path / "a.safetensors")
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        **dict.fromkeys(written, np.float32),
        "places": np.int64,
    }
    for name, tensor in written.items():
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_file_is_told(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(tensors(), path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-3], "text": b"not a tensor at all", "empty": b""}[damage])
    with pytest.raises(ValueError, match="a.safetensors' is not a safetensors file, or it is dam"):
        read_safetensors(path)


def test_a_kernel_is_turned_and_its_heads_parted():
    given = tensors()
    params = fill(SHAPES, dict(given), ".".join)
    np.testing.assert_array_equal(params["norm"]["scale"], given["norm.scale"])
    np.testing.assert_array_equal(params["dense"]["kernel"], given["dense.kernel"].T)
    for head in range(2):
        rows = given["heads.kernel"][7 * head : 7 * head + 7]
        np.testing.assert_array_equal(params["heads"]["kernel"][:, head], rows.T)


def test_what_is_used_is_taken_out():
    given = {**tensors(), "more": np.zeros(3)}
    fill(SHAPES, given, ".".join)
    assert list(given) == ["more"]


def test_a_missing_tensor_and_a_wrong_size_are_told():
    given = tensors()
    del given["norm.scale"]
    with pytest.raises(ValueError, match="no tensor 'norm.scale' for norm/scale"):
        fill(SHAPES, given, ".".join)
    with pytest.raises(ValueError, match=r"'dense.kernel' has shape \(3, 4\).* needs \(5, 3\)"):
        fill(SHAPES, {**tensors(), "dense.kernel": np.zeros((3, 4))}, ".".join)
