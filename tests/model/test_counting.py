"""The closed form against the model itself, for every row of Table 3, and against the paper."""

import math

import jax
import numpy as np
import pytest

from jaxformer.model import Learned, Transformer, forward_flops, parameter_count, pre_norm
from jaxformer.model.counting import kept_activations, least_step_bytes

# The paper's vocabulary of about 37,000 word pieces (section 5.1).
BASE = {
    "vocab_size": 37_000,
    "d_model": 512,
    "d_ff": 2048,
    "num_heads": 8,
    "d_k": 64,
    "d_v": 64,
    "num_encoder_layers": 6,
    "num_decoder_layers": 6,
}


def layers(number):
    return {"num_encoder_layers": number, "num_decoder_layers": number}


# Changes to base, and millions of parameters where Table 3 gives them.
TABLE_3 = {
    "base": ({}, 65),
    "A, 1 head": ({"num_heads": 1, "d_k": 512, "d_v": 512}, None),
    "A, 4 heads": ({"num_heads": 4, "d_k": 128, "d_v": 128}, None),
    "A, 16 heads": ({"num_heads": 16, "d_k": 32, "d_v": 32}, None),
    "A, 32 heads": ({"num_heads": 32, "d_k": 16, "d_v": 16}, None),
    "B, d_k 16": ({"d_k": 16}, 58),
    "B, d_k 32": ({"d_k": 32}, 60),
    "C, N 2": (layers(2), 36),
    "C, N 4": (layers(4), 50),
    "C, N 8": (layers(8), 80),
    "C, d_model 256": ({"d_model": 256, "d_k": 32, "d_v": 32}, 28),
    "C, d_model 1024": ({"d_model": 1024, "d_k": 128, "d_v": 128}, 168),
    "C, d_ff 1024": ({"d_ff": 1024}, 53),
    "C, d_ff 4096": ({"d_ff": 4096}, 90),
    "D, dropout or label smoothing": ({}, None),
    "E, learned positions": ({"positions": Learned, "max_length": 1024}, None),
    "big": ({"d_model": 1024, "d_ff": 4096, "num_heads": 16}, 213),
}
OTHERS = {
    "attention biases": {"attention_bias": True, "d_v": 48},
    "pre-norm": {"residual": pre_norm, "num_decoder_layers": 3},
}


def closed_form(positions=None, max_length=0, residual=None, **changes):
    return parameter_count(
        **{**BASE, **changes},
        final_norm=residual is pre_norm,
        learned_positions=max_length if positions is Learned else 0,
    )


def of_model(**changes):
    model = Transformer(**{**BASE, **changes})
    token_BT = np.ones((1, 2), np.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), token_BT, token_BT)["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", [*TABLE_3, *OTHERS])
def test_the_closed_form_is_the_models(name):
    changes = OTHERS[name] if name in OTHERS else TABLE_3[name][0]
    assert closed_form(**changes) == of_model(**changes)


def test_base_is_sixty_three_million():
    # 37,000 * 512 + 6 * (4 * 512^2 + 2 * 512 * 2048 + 2048 + 512 + 4 * 512)
    # + 6 * (8 * 512^2 + 2 * 512 * 2048 + 2048 + 512 + 6 * 512)
    assert closed_form() == 63_045_632


def test_rows_that_pad_the_vocabulary_do_not_count():
    assert of_model(vocab_size=41, vocab_multiple=16) == closed_form(vocab_size=41) + 7 * 512


@pytest.mark.parametrize("name", [name for name, (_, millions) in TABLE_3.items() if millions])
def test_the_paper_is_within_seven_percent(name):
    changes, millions = TABLE_3[name]
    assert closed_form(**changes) == pytest.approx(millions * 1e6, rel=0.07)


def test_rows_are_in_the_papers_order():
    rows = [
        (millions, closed_form(**changes)) for changes, millions in TABLE_3.values() if millions
    ]
    assert len(rows) == 11
    assert sorted(rows) == sorted(rows, key=lambda row: row[1])


@pytest.mark.parametrize("changes", [{}, {"num_heads": 3, "d_k": 20, "d_v": 28}, layers(1)])
def test_operations_are_those_that_xla_counts(changes):
    small = {
        **BASE,
        "vocab_size": 1009,
        "d_model": 64,
        "d_ff": 208,
        "num_heads": 4,
        "d_k": 16,
        "d_v": 16,
        **changes,
    }
    rows, source, target = 3, 40, 56
    model = Transformer(**small)
    batch = [jax.ShapeDtypeStruct((rows, length), np.int32) for length in (source, target)]
    params = jax.eval_shape(model.init, jax.random.key(0), *batch)
    counted = jax.jit(model.apply).lower(params, *batch).compile().cost_analysis()["flops"]
    expected = rows * forward_flops(**small, source_length=source, target_length=target)
    # XLA counts additions, norms and softmaxes too.
    assert expected == pytest.approx(counted, rel=0.05)
    assert expected < counted


def operands_of_products(model, batch, scores):
    """Returns the numbers of all operands of the model's products, each once.

    Those made of parameters alone are left out, and arrays of a shape in `scores`.
    """
    params = jax.eval_shape(model.init, jax.random.key(0), *batch)
    with jax.disable_jit():
        traced = jax.make_jaxpr(model.apply)(params, *batch).jaxpr
    of_parameters = set(traced.invars[: len(jax.tree.leaves(params))])
    kept = {}
    for step in traced.eqns:
        given = [each for each in step.invars if not hasattr(each, "val")]
        if given and of_parameters.issuperset(given):
            of_parameters.update(step.outvars)
        if step.primitive.name == "dot_general":
            kept |= {each: each.aval.shape for each in given if each not in of_parameters}
    return sum(math.prod(shape) for shape in kept.values() if shape not in scores)


@pytest.mark.parametrize("changes", [{}, {"num_encoder_layers": 3}, {"num_decoder_layers": 1}])
def test_what_is_kept_are_the_operands_of_the_products(changes):
    small = {
        "d_model": 34, "d_ff": 58, "num_heads": 3, "d_k": 20, "d_v": 28,
        "num_encoder_layers": 2, "num_decoder_layers": 2, **changes,
    }  # fmt: skip
    rows, source, target = 5, 7, 11
    model = Transformer(**small, vocab_size=41)
    batch = [jax.ShapeDtypeStruct((rows, length), np.int32) for length in (source, target)]
    scores = [(rows, 3, one, other) for one in (source, target) for other in (source, target)]
    expected = operands_of_products(model, batch, scores)
    found = kept_activations(**small, source_length=source, target_length=target)
    assert rows * found == expected


def test_the_least_bytes_of_a_step():
    assert least_step_bytes(1_000, 0) == 40_000
    assert least_step_bytes(1_000, 30, size=2) == 20_000 + 120
