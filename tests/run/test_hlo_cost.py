"""What a program does: a stored one's figures by hand, others' beside the compiler's own."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.run.hlo import parse
from jaxformer.run.hlo_cost import Collective, Cost, Traffic, cost_of

SMALL = Path(__file__).with_name("small.hlo.txt").read_text(encoding="utf-8")


def test_products_are_counted_by_their_shapes():
    cost = cost_of(parse(SMALL))
    # 8 x 16 by 16 x 32; and in the loop without a known end 6 x 7 by 7 x 6, and 6 x 6 by 6 x 7.
    assert cost.flops == 2 * 8 * 16 * 32 + 2 * 6 * 7 * 6 + 2 * 6 * 6 * 7
    assert [loop.flops for loop in cost.loops] == [2 * 6 * 7 * 6 + 2 * 6 * 6 * 7]


def test_collectives_are_counted_as_often_as_their_loop_runs():
    assert cost_of(parse(SMALL)).collectives == {
        # Groups of 4, written [2,4]<=[4,2]T(1,0); 5 times 8 x 16 float32.
        Collective("all-reduce", 4): Traffic(5, 5 * 512, 5 * 2 * 3 / 4 * 512),
        # {{0,1,2,3},{4,5,6,7}}; each device gives 2 x 16 and gets 8 x 16.
        Collective("all-gather", 4): Traffic(1, 512, 3 / 4 * 512),
        # A fused all-reduce of 32 x 16 of which each of 8 devices keeps 4 x 16.
        Collective("reduce-scatter", 8): Traffic(1, 2048, 7 / 8 * 2048),
        Collective("collective-permute", 2): Traffic(1, 128, 128),
    }


def test_bytes_are_those_of_the_main_memory():
    parts = {
        "copied to the processor's own memory": 1024,
        "a slice copied there": 512,
        "product": 256 + 1024,
        "converted": 256 + 512,
        # Of a stack of 5, each time through the loop reads and writes one.
        "loop": 5 * ((512 + 4) + (512 + 512) + (512 + 4 + 512)),
        "slice": 128 + 128,
        "gathered": 128 + 512,
        "scattered": 2048 + 256,
        "permuted": 128 + 128,
        "loop without a known end": (168 + 168 + 144) + (144 + 168 + 168),
    }
    assert cost_of(parse(SMALL)).bytes == sum(parts.values())


@pytest.mark.parametrize(
    "groups",
    ["replica_groups={{0,1,2,3},{4,5,6,7}}", "replica_groups=[2,4]<=[8]", "replica_groups={}"],
)
def test_groups_of_devices(groups):
    text = SMALL.replace("replica_groups=[2,4]<=[4,2]T(1,0)", groups)
    devices = 8 if groups.endswith("{}") else 4
    assert Collective("all-reduce", devices) in cost_of(parse(text)).collectives


def test_costs_add_up():
    once, twice = Cost(flops=3.0, bytes=5.0), Cost()
    once.collectives[Collective("all-reduce", 4)] = Traffic(1, 8.0, 12.0)
    twice.add(once, times=2)
    assert (twice.flops, twice.bytes, twice.sent) == (6.0, 10.0, 24.0)
    twice.add(once)
    assert twice.collectives[Collective("all-reduce", 4)] == Traffic(3, 24.0, 36.0)


def compile_(function, *shapes):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(s, np.float32) for s in shapes)).compile()


def counted(compiled):
    cost = cost_of(parse(compiled.as_text()))
    return cost, compiled.cost_analysis()


PRODUCTS = {
    "a product": ("td,df->tf", (13, 17), (17, 19)),
    "a batch of products": ("bthk,bshk->bhts", (2, 11, 3, 7), (2, 13, 3, 7)),
    "two axes at once": ("bthv,hvd->btd", (2, 11, 3, 7), (3, 7, 17)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_operations_are_those_that_the_compiler_counts(name):
    equation, *shapes = PRODUCTS[name]
    cost, theirs = counted(compile_(lambda x, y: jnp.einsum(equation, x, y), *shapes))
    assert cost.flops == pytest.approx(theirs["flops"], rel=0.05)
    assert cost.flops > 0


def test_a_loop_counts_as_often_as_it_runs():
    def repeat(x, y):
        return jax.lax.scan(lambda x, _: (x @ y, None), x, length=7)[0]

    cost, theirs = counted(compile_(repeat, (32, 48), (48, 48)))
    assert cost.flops == 7 * 2 * 32 * 48 * 48
    assert theirs["flops"] < 2 * 2 * 32 * 48 * 48
    assert cost.loops == []


def test_bytes_are_about_those_that_the_compiler_counts():
    def step(x, y):
        return jnp.tanh(x @ y).sum(axis=0), x[3:9] + 1

    cost, theirs = counted(compile_(step, (64, 96), (96, 128)))
    assert cost.bytes == pytest.approx(theirs["bytes accessed"], rel=0.1)


KERNEL = """
HloModule attention

ENTRY %main (table: s32[4], query: f32[2,3,5,7], key: f32[2,3,11,7], value: f32[2,3,11,13]) -> f32[2,3,5,13] {
  %table = s32[4]{0} parameter(0)
  %query = f32[2,3,5,7]{3,2,1,0} parameter(1)
  %key = f32[2,3,11,7]{3,2,1,0} parameter(2)
  %value = f32[2,3,11,13]{3,2,1,0} parameter(3)
  ROOT %KERNEL.1 = f32[2,3,5,13]{3,2,1,0} custom-call(%table, %query, %key, %value), custom_call_target="tpu_custom_call"
}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("kernel", "products"),
    [
        ("splash_mha_fwd_segmented_residuals", 7 + 13),
        ("splash_mha_dq_no_residuals", 2 * 7 + 13),
        ("splash_mha_dkv_segmented", 2 * 7 + 2 * 13),
        ("another", 0),
    ],
)
def test_the_products_of_attentions_kernel_are_counted(kernel, products):
    text = KERNEL.replace("KERNEL", kernel)
    assert cost_of(parse(text)).flops == 2 * (2 * 3 * 5 * 11) * products
    # Of a single row the first axis is left out.
    assert cost_of(parse(text.replace("[2,3,", "[3,"))).flops == 2 * (3 * 5 * 11) * products


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "jit(train_step)/transpose(jvp(Transformer.hidden))/Transformer.encode/encoder/layer_11/"
            "attention/attention.read/bthk,bshk->bhts/dot_general",
            "encoder/layers/attention/bthk,bshk->bhts/dot_general",
        ),
        ("jit(train_step)/jvp()/loss/shard_map/while/body/closed_call/exp", "loss/exp"),
        ("jit(train_step)", "copy"),
        ("", "copy"),
    ],
)
def test_bytes_are_told_by_where_they_come_from(name, expected):
    text = f"""
HloModule small

ENTRY %main (x: f32[3,5]) -> f32[3,5] {{
  %x = f32[3,5]{{1,0}} parameter(0)
  ROOT %copy.3 = f32[3,5]{{0,1}} copy(%x), metadata={{op_name="{name}"}}
}}
"""
    cost = cost_of(parse(text))
    assert cost.bytes_by_origin == {expected: 2 * 60}
    total = Cost()
    total.bytes_by_origin[expected] = 3.0
    total.add(cost, times=2)
    assert total.bytes_by_origin == {expected: 243.0}
