"""Where a step's time goes: sums of made-up events, and a trace of a tiny model's step."""

import json
import os
import subprocess
import sys

import pytest

from experiments.benchmarks import attribution, step_profile
from experiments.benchmarks.attribution import Event, Label, Sum
from experiments.benchmarks.figures import training_flops
from experiments.benchmarks.sizes import SIZES
from experiments.shared.processes import ROOT
from jaxformer.run.hlo import parse

LAYER = "jit(step)/jvp(Transformer.hidden)/Transformer.encode/encoder/layer_0"
PROGRAM = f"""HloModule jit_step, is_scheduled=true

%fused_product (a: f32[6,4], b: f32[5,4]) -> f32[6,5] {{
  %a = f32[6,4]{{1,0}} parameter(0)
  %b = f32[5,4]{{1,0}} parameter(1)
  ROOT %dot.1 = f32[6,5]{{1,0}} dot(%a, %b), lhs_contracting_dims={{1}}, rhs_contracting_dims={{1}}, metadata={{op_name="{LAYER}/feed_forward/inner/dot_general"}}
}}

%fused_mask (c: u32[6,5]) -> u32[6,5] {{
  %c = u32[6,5]{{1,0}} parameter(0)
  %half = u32[6,5]{{1,0}} shift-right-logical(%c, %c)
  ROOT %xor.1 = u32[6,5]{{1,0}} xor(%c, %half), metadata={{op_name="{LAYER}/div"}}
}}

%body (d: f32[5,4]) -> f32[5,4] {{
  %d = f32[5,4]{{1,0}} parameter(0)
  ROOT %add.1 = f32[5,4]{{1,0}} add(%d, %d), metadata={{op_name="jit(step)/jvp(loss)/while/body/add"}}
}}

ENTRY %main (x: f32[6,4], kernel: f32[5,4]) -> f32[6,5] {{
  %x = f32[6,4]{{1,0}} parameter(0)
  %kernel = f32[5,4]{{1,0}} parameter(1), metadata={{op_name="state.params['kernel']"}}
  %copy.1 = f32[5,4]{{1,0}} copy(%kernel)
  %while.1 = f32[5,4]{{1,0}} while(%copy.1), condition=%body, body=%body
  %mask = u32[6,5]{{1,0}} fusion(%x), kind=kLoop, calls=%fused_mask
  %scores = f32[2,3,5]{{2,1,0}} dot(%q, %k), lhs_batch_dims={{0}}, rhs_batch_dims={{0}}, lhs_contracting_dims={{2}}, rhs_contracting_dims={{1}}, metadata={{op_name="{LAYER}/attention/attention.read/bthk,bshk->bhts/dot_general"}}
  %q = f32[2,3,7]{{2,1,0}} parameter(2)
  %k = f32[2,7,5]{{2,1,0}} parameter(3)
  %projected = f32[6,5]{{1,0}} fusion(%x), kind=kLoop, calls=%fused_product, metadata={{op_name="{LAYER}/attention/attention.read/query/dot_general"}}
  ROOT %product = f32[6,5]{{1,0}} fusion(%x, %kernel), kind=kCustom, calls=%fused_product
}}
"""  # noqa: E501
FEED_FORWARD = "f32[6, 4k] x f32[5, 4k]"


def test_operations_at_the_same_time_share_it():
    events = [Event("a", 0.0, 4.0), Event("b", 1.0, 3.0), Event("c", 2.0, 3.0), Event("d", 7, 8)]
    # a alone, a and b, all three, a alone; a gap; d.
    assert attribution.divide(events) == pytest.approx([1 + 1 / 2 + 1 / 3 + 1, 5 / 6, 1 / 3, 1])
    assert sum(attribution.divide(events)) == pytest.approx(5)
    again = attribution.divide(events[::-1])
    assert again[::-1] == pytest.approx(attribution.divide(events))
    assert attribution.divide([Event("a", 1.0, 1.0), Event("b", 1.0, 2.0)]) == [0.0, 1.0]
    assert attribution.divide([]) == []


def test_events_are_summed_by_part_and_kind():
    steps = [
        [
            Event("copy.1", 0.0, 1.0),
            Event("while.1", 1.0, 4.0), Event("add.1", 1.0, 2.0), Event("add.1", 2.5, 3.0),
            Event("product", 4.0, 6.0), Event("mask", 5.0, 6.0),
        ],
        [Event("product", 10.0, 14.0), Event("scores", 14.0, 15.0)],
    ]  # fmt: skip
    sums = attribution.sum_up(parse(PROGRAM), steps)
    found = {(label.part, label.kind, str(label.product or "")): sums[label] for label in sums}
    assert found == {
        ("state", "copy, conversion", ""): Sum(0.5, 0.5, 0.0),
        ("logits and loss", "elementwise", ""): Sum(0.75, 1.0, 0.0),
        ("feed-forward", "matrix product", FEED_FORWARD): Sum(2.75, 1.0, 2.0 * 6 * 4 * 5),
        ("residuals and dropout", "random bits", ""): Sum(0.25, 0.5, 0.0),
        ("scores of attention", "matrix product", "f32[2b, 3, 7k] x f32[2b, 7k, 5]"): Sum(
            0.5, 0.5, 2 * 3 * 5 * 7
        ),
    }
    program = parse(PROGRAM)
    main = program.computations["main"]
    label = attribution.label(program, main, main.operations["projected"])
    assert label.part == "projections of attention"
    with pytest.raises(ValueError, match="has an operation 'other', which the program lacks"):
        attribution.sum_up(program, [[Event("other", 0.0, 1.0)]])


def test_the_account_says_what_products_bound():
    sums = attribution.sum_up(
        parse(PROGRAM), [[Event("product", 0.0, 3.0), Event("projected", 3.0, 4.0)]]
    )
    sums[Label("layer norm", "reduction")] = Sum(1.0, 2.0, 0.0)
    (form,) = {label.product for label in sums if label.product}
    found = step_profile.account(sums, 6.0, {"float32": 240.0}, {form: 120.0})
    assert found["gaps"] == pytest.approx(1.0)
    assert found["products"] == pytest.approx(
        {
            "seconds": 4.0, "seconds_alone": 4.0, "seconds_at_ceiling": 2.0,
            "gain_if_all_else_cost_nothing": 1.5, "gain_if_products_were_as_alone": 1.0,
            "gain_if_products_met_ceiling": 1.5,
        }
    )  # fmt: skip
    assert [row["part"] for row in found["parts"]] == [
        "feed-forward", "projections of attention", "layer norm",
    ]  # fmt: skip
    (row,) = found["forms"]
    assert (row["form"], row["runs"], row["flops_per_second"]) == (FEED_FORWARD, 2.0, 120.0)
    assert (row["of_ceiling"], row["share"]) == (0.5, pytest.approx(4 / 6))
    lines = list(step_profile.tables({**found, "untraced_seconds": 5.0}))
    assert "A step takes 6000.0 ms under the profiler, 5000.0 ms without." in lines
    assert "| layer norm | reduction | 1000.0 | 16.7% | 2 |  |" in lines
    assert "| between operations | | 1000.0 | 16.7% | | |" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} == {7, 8}


@pytest.mark.slow
def test_a_traced_step_is_accounted_for(tmp_path):
    out = tmp_path / "profile.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "experiments.benchmarks.step_profile", "--size=smoke",
            "--steps=3", "--seconds=0.01", f"--out={out}",
        ],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(out.read_text(encoding="utf-8"))
    assert sum(row["seconds"] for row in record["parts"]) + record["gaps"] == pytest.approx(
        record["seconds"]
    )
    assert 0 <= record["gaps"] < record["seconds"]
    flops = sum(row["flops"] for row in record["forms"])
    assert flops == sum(row["flops"] for row in record["parts"])
    # The step's products are all in the trace, and none twice.
    smoke = SIZES["smoke"]
    assert flops == pytest.approx(training_flops(smoke) * smoke.tokens, rel=0.01)
    found = {row["part"] for row in record["parts"]}
    assert found >= {"feed-forward", "logits and loss", "optimizer", "layer norm", "embedding"}
    assert "| feed-forward | matrix product |" in done.stdout
