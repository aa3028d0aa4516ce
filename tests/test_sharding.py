"""Sharding: every array has its place, and what has none is refused with its path."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from jaxformer.model import Mask, Positions, Transformer
from jaxformer.optim import scale_by_paper_adam
from jaxformer.run.machine import tpu_slice
from jaxformer.sharding import (
    PARAMETER_AXES,
    batch_shardings,
    make_abstract_mesh,
    make_layout,
    make_mesh,
    num_shares,
    state_shardings,
)
from jaxformer.train import Hyper, init_state

MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "tensor": (1, 1, 8), "all": (2, 2, 2)}
# Every size that is cut is a multiple of eight. GELU, since two runs that are equal to rounding may
# stand on either side of ReLU's kink.
MODEL = Transformer(
    vocab_size=41,
    d_model=24,
    d_ff=40,
    num_heads=8,
    d_k=3,
    d_v=5,
    num_encoder_layers=1,
    num_decoder_layers=1,
    vocab_multiple=16,
    attention_bias=True,
    activation=jax.nn.gelu,
)


def plain_or_adam():
    """Returns the optimiser whose state says whether it is Adam: one program for both."""
    adam = scale_by_paper_adam()

    def update(gradients, state, params=None):
        is_adam, inner = state
        direction, inner = adam.update(gradients, inner, params)
        direction = jax.tree.map(lambda a, b: jnp.where(is_adam, a, b), direction, gradients)
        return direction, (is_adam, inner)

    return optax.GradientTransformation(
        lambda params: (jnp.zeros((), bool), adam.init(params)), update
    )


OPTIMIZER = plain_or_adam()


def first_state(is_adam=False, model=MODEL):
    hyper = Hyper.create(dropout_rate=0.3, learning_rate=0.3, warmup_steps=5)
    state = init_state(model, OPTIMIZER, hyper, seed=0)
    return state.replace(opt_state=(jnp.asarray(is_adam), state.opt_state[1]))


SHAPES = jax.eval_shape(first_state)


def abstract_mesh(data, fsdp, tensor):
    """Returns a mesh without devices."""
    return AbstractMesh((data, fsdp, tensor), ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3)


def specs_of(mesh, **more):
    """Returns dotted path -> how that leaf of the state is cut, without axes of one device."""

    def cut(entry):
        entry = (entry,) if isinstance(entry, str) else entry or ()
        axes = [axis for axis in entry if mesh.shape[axis] > 1]
        return axes[0] if len(axes) == 1 else tuple(axes) or None

    return {
        jax.tree_util.keystr(path, simple=True, separator="."): tuple(map(cut, sharding.spec))
        for path, sharding in jax.tree_util.tree_leaves_with_path(
            state_shardings(SHAPES, mesh, **more)
        )
    }


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ((8, 1, 1), (8, 1, 1)),
        ((-1, 1, 1), (8, 1, 1)),
        ((-1, 2, 2), (2, 2, 2)),
        ((2, -1, 1), (2, 4, 1)),
        ((1, 1, -1), (1, 1, 8)),
        ((8, -1, 1), (8, 1, 1)),
    ],
)
def test_a_mesh_has_all_devices(monkeypatch, sizes, shape):
    devices = [
        SimpleNamespace(platform="none", device_kind="none", id=number) for number in range(8)
    ]
    monkeypatch.setattr("jaxformer.sharding.Mesh", lambda *arguments, **more: (*arguments, more))
    placed, names, more = make_mesh(*sizes, devices=devices)
    assert placed.shape == shape
    assert list(placed.flat) == devices
    assert names == ("data", "fsdp", "tensor")
    assert more == {"axis_types": (AxisType.Auto,) * 3}
    assert tuple(make_abstract_mesh(*sizes, num_devices=8).shape.values()) == shape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((3, 1, 1), "parallel.data=3, parallel.fsdp=1, parallel.tensor=1 needs 3 devices, and "
         "there are 8. Set them so that"),
        ((4, 4, 1), "needs 16 devices, and there are 8"),
        ((-1, 3, 1), "needs a multiple of 3 devices, and there are 8"),
        ((-1, 16, 1), "needs a multiple of 16 devices, and there are 8"),
        ((-1, -1, 1), "is not a mesh. Set each to 1 or more"),
        ((0, 1, 1), "is not a mesh"),
        ((8, 1, -2), "is not a mesh"),
    ],
)  # fmt: skip
def test_a_mesh_that_does_not_fit_is_refused(sizes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_mesh(*sizes, devices=[object() for _ in range(8)])
    with pytest.raises(ValueError, match=re.escape(message)):
        make_abstract_mesh(*sizes, num_devices=8)


def test_every_leaf_has_a_place():
    specs = specs_of(abstract_mesh(2, 2, 2))
    expected = {
        "embedding.table": (("tensor", "fsdp"), None),
        "encoder.layer_0.attention.query.kernel": ("fsdp", "tensor", None),
        "encoder.layer_0.attention.query.bias": ("tensor", None),
        "decoder.layer_0.cross_attention.out.kernel": ("tensor", None, "fsdp"),
        "decoder.layer_0.cross_attention.out.bias": (None,),
        "decoder.layer_0.feed_forward.inner.kernel": ("fsdp", "tensor"),
        "decoder.layer_0.feed_forward.inner.bias": ("tensor",),
        "decoder.layer_0.feed_forward.outer.kernel": ("tensor", "fsdp"),
        "encoder.layer_0.feed_forward_norm.scale": (None,),
    }
    for path, spec in expected.items():
        assert specs[f"params.{path}"] == spec
    # The optimiser's moments lie as their parameters do; scalars are copies.
    params = {path: spec for path, spec in specs.items() if path.startswith("params.")}
    for moment in ("mu", "nu"):
        assert {
            f"params.{path.partition(f'{moment}.')[2]}": spec
            for path, spec in specs.items()
            if path.startswith(f"opt_state.1.{moment}.")
        } == params
    for path in ("step", "key", "hyper.dropout_rate", "opt_state.0", "opt_state.1.count"):
        assert specs[path] == ()


@pytest.mark.parametrize("mesh", MESHES)
def test_each_axis_is_spread_over_what_there_is(mesh):
    mesh = abstract_mesh(*MESHES[mesh])
    shardings = state_shardings(SHAPES, mesh)
    shares = jax.tree.map(lambda leaf, at: at.shard_shape(leaf.shape), SHAPES, shardings).params
    cut, tensor = mesh.shape["fsdp"] * mesh.shape["tensor"], mesh.shape["tensor"]
    assert shares["embedding"]["table"] == (48 // cut, 24)
    kernel = shares["encoder"]["layer_0"]["attention"]["query"]["kernel"]
    assert kernel == (24 // mesh.shape["fsdp"], 8 // tensor, 3)
    batch = batch_shardings(mesh)["source_BS"]
    assert batch.shard_shape((16, 13)) == (16 // num_shares(mesh), 13)


def test_learned_positions_and_final_norms_are_copies():
    from jaxformer.model import Learned, pre_norm

    model = MODEL.clone(positions=Learned, residual=pre_norm)
    token_BT = jnp.ones((1, 2), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), token_BT, token_BT)["params"]
    shardings = state_shardings(shapes, abstract_mesh(2, 2, 2))
    for name in ("source_positions", "target_positions"):
        assert shardings[name]["table"].spec == PartitionSpec(None, None)
    assert shardings["encoder"]["norm"]["scale"].spec == PartitionSpec(None)


def test_a_parameter_without_axes_is_refused_where_something_is_cut():
    without = {key: axes for key, axes in PARAMETER_AXES.items() if key != "*.outer.kernel"}
    message = r"params.decoder.layer_0.feed_forward.outer.kernel of shape \(40, 24\) is in no patt"
    with pytest.raises(ValueError, match=message.replace("params", "(params|opt_state.1.mu)")):
        state_shardings(SHAPES, abstract_mesh(1, 2, 1), without)
    assert set(specs_of(abstract_mesh(8, 1, 1), axes={}).values()) == {()}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (("modle", "inner"), "there is no axis 'modle'. Name one of batch, vocab, model,"),
        (("model", "vocab"), "would be spread over fsdp twice. Name another axis, or None"),
        (("model",), "has 2 axes. Name each of them."),
    ],
)
def test_wrong_axes_are_refused_with_the_parameters_path(axes, message):
    changed = {**PARAMETER_AXES, "*.outer.kernel": axes}
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        state_shardings(SHAPES.params, abstract_mesh(2, 2, 2), changed)
    assert str(raised.value).startswith(
        "decoder.layer_0.feed_forward.outer.kernel of shape (40, 24) with axes ("
    )


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            (1, 1, 16),
            "decoder.layer_0.attention.key.bias of shape (8, 3) with axes (heads, None): axis 0 of "
            "8 is not divisible by parallel.tensor = 16. Set model.num_heads to a multiple of 16, "
            "or choose another mesh.",
        ),
        (
            (1, 9, 1),
            "decoder.layer_0.attention.key.kernel of shape (24, 8, 3) with axes (model, heads, "
            "None): axis 0 of 24 is not divisible by parallel.fsdp = 9. Set model.d_model to a "
            "multiple of 9, or choose another mesh.",
        ),
    ],
)
def test_a_size_that_does_not_divide_is_refused_with_its_path(sizes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        state_shardings(SHAPES.params, abstract_mesh(*sizes))


def test_a_vocabulary_that_does_not_divide_is_told_how_to():
    table = {"embedding": {"table": jax.ShapeDtypeStruct((41, 24), jnp.float32)}}
    message = "axis 0 of 41 is not divisible by parallel.tensor * parallel.fsdp = 4. Set model.voc"
    with pytest.raises(ValueError, match=re.escape(message)):
        state_shardings(table, abstract_mesh(1, 2, 2))


def test_activations_are_checked_when_they_are_traced():
    layout = make_layout(abstract_mesh(2, 2, 1))
    x_BTD = jax.ShapeDtypeStruct((6, 5, 3), jnp.float32)
    with pytest.raises(ValueError, match="An activation of shape .* Fill the batch up to a multi"):
        jax.eval_shape(lambda x_BTD: layout.constrain(x_BTD, "batch"), x_BTD)
    with pytest.raises(ValueError, match="there is no axis 'beam'"):
        jax.eval_shape(lambda x_BTD: layout.constrain(x_BTD, None, "beam"), x_BTD)


def test_an_attention_by_row_and_head_sees_those_of_its_device():
    seen = []

    def attend(query_BTHK, key_BSHK, value_BSHV, mask, positions):
        seen.append([array.shape for array in jax.tree.leaves((query_BTHK, mask, positions))])
        return value_BSHV[:, : query_BTHK.shape[1]], None

    head_BTHK, valid_BS = jnp.zeros((8, 5, 6, 3)), jnp.zeros((8, 7), bool)
    mask, positions = Mask(key_valid_BS=valid_BS), Positions(jnp.zeros((8, 5)), jnp.zeros((1, 7)))
    out, weights = jax.eval_shape(
        make_layout(abstract_mesh(2, 2, 2)).by_row_and_head(attend),
        *(head_BTHK, jnp.zeros((8, 7, 6, 3)), jnp.zeros((8, 7, 6, 4)), mask, positions),
    )
    assert (out.shape, weights) == ((8, 5, 6, 4), None)
    # Two rows and three heads; what is the same for every row stays so.
    assert seen[0] == [(2, 5, 3, 3), (2, 7), (2, 5), (1, 7)]


@pytest.mark.needs("tpu-compiler")
@pytest.mark.parametrize("sizes", [(256, 1, 1), (16, 4, 4), (1, 2, 128)])
def test_a_mesh_need_not_follow_the_sides_of_a_slice(sizes):
    devices = tpu_slice("v6e:16x16").devices
    mesh = make_mesh(*sizes, devices=devices)
    assert mesh.devices.shape == sizes
    assert set(mesh.devices.flat) == set(devices)
