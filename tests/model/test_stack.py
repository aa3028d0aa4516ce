"""Remat and a loop over layers change no loss and no gradient, only what is kept and compiled."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.loss import projected_cross_entropy_sums
from jaxformer.model import Dropout, attention_weights, pre_norm, shift_right

S, T = 13, 11
OTHERS = {
    "dots, unrolled": {"remat": "dots"},
    "none, scanned": {"scan_layers": True},
    "full, scanned": {"remat": "full", "scan_layers": True},
}
LAYERS = {"num_encoder_layers": 1, "num_decoder_layers": 2}


@pytest.fixture(scope="module")
def batch(sentences):
    return sentences([13, 3, 0, 7], S), sentences([11, 5, 0, 2], T, seed=1)


@pytest.fixture(scope="module")
def loss_of(batch):
    """Returns (model, params) -> smoothed loss under dropout."""
    source_BS, target_BT = batch

    def loss(model, params):
        dropout = Dropout.create(jax.random.key(5), 0.3, jnp.arange(len(source_BS)))
        hidden_BTD = model.apply(
            {"params": params}, source_BS, shift_right(target_BT), dropout, method="hidden"
        )
        table_WD = params["embedding"]["table"]
        return projected_cross_entropy_sums(hidden_BTD, table_WD, target_BT, 0.1, 41).loss

    return loss


@pytest.fixture(scope="module")
def loss_and_gradients(make_model, loss_of, params_of, tempered):
    """Returns loss and gradients of a small model, of whatever form, at the same parameters.

    Its attention has parameters of its own.
    """

    @functools.cache
    def compute(**form):
        make = functools.partial(make_model, attend=tempered, residual=pre_norm, **LAYERS)
        # Small ones: the rounding of few additions is not made large by the layers above.
        params = jax.tree.map(lambda leaf: 0.5 * leaf, params_of(make()))
        return jax.jit(jax.value_and_grad(functools.partial(loss_of, make(**form))))(params)

    return compute


def assert_close(found, expected):
    """Equal to rounding: relative L2 of every tensor."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


@pytest.mark.parametrize("name", OTHERS)
def test_loss_and_gradients_are_the_same(loss_and_gradients, name):
    assert_close(loss_and_gradients(**OTHERS[name]), loss_and_gradients())


def count(jaxpr, name):
    """Counts an operation's occurrences in a program, those within others too."""
    return sum(
        (equation.primitive.name == name)
        + sum(count(inner, name) for inner in jax.extend.core.jaxprs_in_params(equation.params))
        for equation in jaxpr.eqns
    )


@pytest.fixture(scope="module")
def products(make_model, loss_of, params_of):
    """Returns how many matrix products the gradient's program holds."""

    def trace(**changes):
        model, plain = make_model(**changes), make_model(**{**changes, "remat": "none"})
        gradient = jax.grad(functools.partial(loss_of, model))
        return count(jax.make_jaxpr(gradient)(params_of(plain)).jaxpr, "dot_general")

    return trace


def test_the_backward_pass_computes_again_what_is_not_kept(products):
    none, dots, full = (products(remat=remat, **LAYERS) for remat in ("none", "dots", "full"))
    # The two products of Eq. 1: once in an encoder's layer, twice in a decoder's.
    scores = 2 * (1 + 2 * 2)
    assert none < dots <= none + scores
    # The projections too: 6 in an encoder's layer with its feed-forward, 10 in a decoder's.
    assert none + scores + 10 < full <= none + scores + 6 + 10 * 2


def test_a_loop_holds_its_layer_once(products):
    few, many = ({"num_encoder_layers": n, "num_decoder_layers": n} for n in (2, 5))
    assert products(scan_layers=True, **few) == products(scan_layers=True, **many)
    assert products(**few) < products(**many)


@pytest.mark.parametrize("form", [{"scan_layers": True}, {"remat": "full"}], ids=str)
def test_parameters_and_sown_weights_keep_their_places(make_model, params_of, batch, form):
    model, plain = make_model(**LAYERS, **form), make_model(**LAYERS)
    token_BT = np.ones((1, 2), np.int32)
    trees = [
        jax.eval_shape(each.init, jax.random.key(0), token_BT, token_BT) for each in (model, plain)
    ]
    assert trees[0] == trees[1]
    assert set(trees[0]["params"]["decoder"]) == {"layer_0", "layer_1"}
    weights = [
        jax.eval_shape(functools.partial(attention_weights, each), params_of(plain), *batch)
        for each in (model, plain)
    ]
    assert weights[0] == weights[1]


def test_an_unknown_remat_is_named(make_model):
    with pytest.raises(ValueError, match="remat='most' is unknown. Set it to one of none, full"):
        make_model(remat="most").init(
            jax.random.key(0), jnp.ones((1, 2), int), jnp.ones((1, 2), int)
        )
