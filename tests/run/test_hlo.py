"""Reading a compiled program's text: a small one that is kept, and what the compiler gives here."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.run.hlo import Array, parse

SMALL = Path(__file__).with_name("small.hlo.txt").read_text(encoding="utf-8")


def test_a_stored_program_is_read():
    program = parse(SMALL)
    assert (program.entry, program.partitions) == ("main", 8)
    main = program.computations["main"]
    assert main.root == "result"
    loop = main.operations["while.0"]
    assert (loop.opcode, loop.called) == ("while", ("known_body",))
    assert [array.dimensions for array in loop.results] == [(), (8, 16), (5, 8, 16)]
    start = main.operations["copy-start.1"]
    assert [each.in_main_memory for each in start.results] == [False, True, False]
    assert start.results[1] == Array("bf16", (16, 32))
    fused = program.computations["fused_product"]
    # A parameter's place is its number, not its line.
    assert {name: each.number for name, each in fused.operations.items()} == {
        "param_1.1": 1, "param_0.1": 0, "convolution.1": None,
    }  # fmt: skip
    assert fused.operations["convolution.1"].operands == ("param_0.1", "param_1.1")


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("pred", 1), ("s4", 0.5), ("u8", 1), ("f8e4m3fn", 1), ("bf16", 2), ("f32", 4), ("c64", 8)],
)
def test_types_have_their_sizes(dtype, size):
    assert Array(dtype, (3, 5)).bytes == 15 * size
    assert Array(dtype, ()).bytes == size


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="not the text of a compiled program: it has no ENTRY"):
        parse("HloModule empty\n")


def test_every_operation_of_a_real_program_is_read():
    def step(x, table):
        def body(x, row):
            return jnp.tanh(x @ table) + row, jnp.sum(x)

        return jax.lax.scan(body, x, jnp.arange(7.0))

    shapes = jax.ShapeDtypeStruct((3, 5), np.float32), jax.ShapeDtypeStruct((5, 5), np.float32)
    text = jax.jit(step).lower(*shapes).compile().as_text()
    program = parse(text)
    lines = [line for line in text.splitlines() if " = " in line and line.startswith(" ")]
    operations = [
        each for made in program.computations.values() for each in made.operations.values()
    ]
    assert len(operations) == len(lines) > 10
    assert all(each.opcode for each in operations)
    assert [
        program.trips(made, each)
        for made in program.computations.values()
        for each in made.operations.values()
        if each.opcode == "while"
    ] == [7]


def test_how_often_a_loop_runs():
    def trips(text, name):
        program = parse(text)
        main = program.computations["main"]
        return program.trips(main, main.operations[name])

    assert trips(SMALL, "while.0") == 5
    assert trips(SMALL, "while.7") is None
    # Where the compiler does not say it, the condition does: below 5, from 0.
    unsaid = SMALL.replace('"known_trip_count":{"n":"5"},', "")
    assert trips(unsaid, "while.0") == 5
    for before, after in (
        ("%zero = s32[]{:T(128)} constant(0)", "%zero = s32[]{:T(128)} constant(3)"),
        ("direction=LT", "direction=GT"),
        ("%five = s32[]{:T(128)} constant(5)", "%five = s32[]{:T(128)} copy(%number.3)"),
    ):
        assert before in unsaid
        assert trips(unsaid.replace(before, after), "while.0") is None


@pytest.mark.parametrize(("step", "times"), [("%two", 3), ("%one", 5), ("%x", 5)])
def test_a_loop_may_count_by_twos(step, times):
    program = parse(
        f"""
HloModule windows

%body (state: (u32[], u32[])) -> (u32[], u32[]) {{
  %state = (u32[], u32[]) parameter(0)
  %counter = u32[] get-tuple-element(%state), index=0
  %x = u32[] get-tuple-element(%state), index=1
  %one = u32[] constant(1)
  %two = u32[] constant(2)
  %next = u32[] add(%counter, {step})
  ROOT %made = (u32[], u32[]) tuple(%next, %x)
}}

%below (state: (u32[], u32[])) -> pred[] {{
  %state = (u32[], u32[]) parameter(0)
  %counter = u32[] get-tuple-element(%state), index=0
  %five = u32[] constant(5)
  ROOT %less = pred[] compare(%counter, %five), direction=LT
}}

ENTRY %main (x: u32[]) -> u32[] {{
  %x = u32[] parameter(0)
  %zero = u32[] constant(0)
  %first = (u32[], u32[]) tuple(%zero, %x)
  %loop = (u32[], u32[]) while(%first), condition=%below, body=%body
  ROOT %last = u32[] get-tuple-element(%loop), index=1
}}
"""
    )
    main = program.computations["main"]
    assert program.trips(main, main.operations["loop"]) == times
