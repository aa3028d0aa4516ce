"""`jaxformer preflight`: figures of this host's devices, of slices that are not here, a verdict."""

import dataclasses
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxformer.model import forward_flops
from jaxformer.run import machine
from jaxformer.run.chips import CHIPS
from jaxformer.run.hlo import parse
from jaxformer.run.hlo_cost import cost_of
from jaxformer.run.preflight import Compiled, DoesNotFit
from tests.cli.conftest import TINY

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = ROOT / "configs"
HLO = ROOT / "tests" / "run" / "small.hlo.txt"
# No corpus is named: none is read.
ASKED = ["preflight", f"--config={CONFIGS / 'plain_text.py'}", *TINY, "--config.decode.num_beams=2"]


@pytest.fixture(scope="module")
def report(jaxformer):
    """Returns the figures of the tiny model on this host."""
    result = jaxformer(*ASKED, "--json", "--config.train.num_steps=50")
    assert result.code == 0, result.err
    assert "Compiling the training step for 2 x (160 + 160)" in result.err
    return json.loads(result.out)


def flops_of(report):
    """Returns the closed form's operations of a training step of the dearest shape."""
    shape, model = report["train"][0]["shape"], report["config"]["model"]
    names = ("d_model", "d_ff", "num_heads", "num_encoder_layers", "num_decoder_layers")
    width = model["d_model"] // model["num_heads"]
    multiple = model["vocab_multiple"]
    vocab_size = -(-report["config"]["data"]["vocab_size"] // multiple) * multiple
    return (
        3
        * shape["rows"]
        * forward_flops(
            **{name: model[name] for name in names},
            vocab_size=vocab_size,
            d_k=model["d_k"] or width,
            d_v=model["d_v"] or width,
            source_length=shape["source"],
            target_length=shape["target"],
        )
    )


def test_the_step_is_that_of_the_closed_form(report):
    (step,) = report["train"]
    assert step["shape"] == {"rows": 2, "source": 160, "target": 160}
    assert step["planned_rows"] == 2
    devices = report["machine"]["devices"]
    assert step["flops"] * devices == pytest.approx(flops_of(report), rel=0.05)
    assert step["bytes"] > step["memory"]["total"]
    assert step["bound"] is None
    assert report["run"] is None
    moved = [each["bytes"] for each in step["moved"]]
    assert moved == sorted(moved, reverse=True)
    assert len(moved) == 10
    assert 0.3 * step["bytes"] < sum(moved) < step["bytes"]


def test_memory_is_told_apart(report):
    (step,) = report["train"]
    memory = dict(step["memory"])
    # Rows that fill up the vocabulary of 291 to a multiple of 7.
    stored = report["parameters"] + 3 * 16
    assert memory["parameters"] == 4 * stored
    # Adam's two moments, and a counter.
    assert memory["optimizer"] == 8 * stored + 4
    assert memory["temporaries"] > 4 * stored
    total = memory.pop("total")
    assert total == sum(memory.values())
    assert report["search"]["memory"]["parameters"] == 4 * stored
    assert report["verdict"] == {"fits": True, "advice": []}


def test_the_search_has_a_position(report):
    search = report["search"]
    assert search["shape"] == {"rows": 32, "source": 128}
    assert search["positions"] == 128 + 50
    position = search["position"]
    assert 0 < position["flops"] < search["flops"]


@pytest.fixture
def without_compiling(monkeypatch):
    """Puts a stored program in the place of every compiled one, and a known chip under it.

    Returns: a function that sets the memory of a device.
    """
    cost = cost_of(parse(HLO.read_text(encoding="utf-8")))
    compiled = Compiled(
        seconds=3.0, arguments=200_000, results=0, temporaries=600_000, program=1000, cost=cost
    )
    (v5e,) = (chip for chip in CHIPS if chip.name == "v5e")

    def set_memory(memory):
        known = dataclasses.replace(machine.here(), chip=v5e, memory=memory)
        monkeypatch.setattr("jaxformer.cli.examine.here", lambda: known)

    monkeypatch.setattr("jaxformer.cli.examine.compile_for", lambda *_: compiled)
    set_memory(1_000_000)
    return set_memory


@pytest.mark.usefixtures("without_compiling")
def test_every_shape_can_be_asked_for(jaxformer):
    result = jaxformer(*ASKED, "--all_shapes")
    assert result.code == 0
    shapes = re.findall(r"^train step   (.*), rows x source", result.out, re.M)
    assert shapes[0] == "2 x (160 + 160)"
    assert set(shapes) == {
        "2 x (160 + 160)", "2 x (120 + 120)", "3 x (96 + 96)", "4 x (80 + 80)", "5 x (56 + 56)",
        "6 x (48 + 48)", "8 x (40 + 40)", "10 x (32 + 32)", "13 x (24 + 24)",
    }  # fmt: skip


@pytest.mark.usefixtures("without_compiling")
def test_the_text_says_what_the_figures_say(jaxformer):
    result = jaxformer(*ASKED)
    assert result.code == 0
    for line in (
        f"{CONFIGS / 'plain_text.py'} on here: 1 x cpu, mesh data 1, fsdp 1, tensor 1",
        "peaks        a chip: 197 TFLOP/s, memory 819 GB/s, links 200 GB/s each way "
        "(cloud.google.com/tpu/docs/v5e)",
        "  exchange   all-reduce x 5 among 4: 2.56 kB, at least 3.84 kB sent",
        "  work       9.2 kFLOP, 20.8 kB a device",
        # 6,144 bytes by 200 GB/s; the products and the memory take less.
        "  time       at least 30.7 ns, bound by exchange (products 0.0467 ns, memory 25.4 ns, "
        "exchange 30.7 ns)",
        "speed        at most 10,416,666,667 target tokens a second; 4,166,666,667 at 40% of that",
        "verdict      fits",
    ):
        assert line in result.out.splitlines()


@pytest.mark.usefixtures("without_compiling")
def test_the_search_can_be_left_out(jaxformer):
    result = jaxformer(*ASKED, "--no_search", "--json")
    assert (result.code, json.loads(result.out)["search"]) == (0, None)
    assert "search" not in jaxformer(*ASKED, "--no_search").out
    assert "search       32 x 128, 2 beams, at most 178 positions" in jaxformer(*ASKED).out


def test_what_does_not_fit_ends_with_code_1(jaxformer, without_compiling):
    without_compiling(700_000)
    result = jaxformer(*ASKED)
    assert result.code == 1
    verdict = result.out.split("verdict")[1].splitlines()
    assert verdict[0].endswith("DOES NOT FIT")
    assert verdict[1].endswith("--config.model.remat=dots --config.model.scan_layers=true.")
    assert verdict[-1].endswith("--config.decode.batch_tokens=2048.")


def test_where_the_compiler_gives_up_its_need_is_told(jaxformer, without_compiling, monkeypatch):
    del without_compiling

    def give_up(*_):
        raise DoesNotFit(int(3.5 * 2**30))

    monkeypatch.setattr("jaxformer.cli.examine.compile_for", give_up)
    result = jaxformer(*ASKED, "--json")
    assert result.code == 1
    found = json.loads(result.out)
    assert found["verdict"]["fits"] is False
    assert found["train"][0]["memory"]["total"] == 3.5 * 2**30
    assert found["run"] is None
    assert "memory     3.500 GiB a device: parameters 0.000" in jaxformer(*ASKED).out


MISTAKES = {
    "no config": ([], "A config is needed: --config=configs/quickstart.py, for instance."),
    "no slice": (
        [*ASKED[1:], "--topology=v5e"],
        "'v5e' is not the name of a slice. Write a kind of v4, v5e, v5p, v6e and how many chips "
        "stand along each axis: v5e:4x4, v5p:2x2x4.",
    ),
    "a mesh that does not come out": (
        [*ASKED[1:], "--config.parallel.data=3"],
        "parallel.data=3, parallel.fsdp=1, parallel.tensor=1 needs 3 devices, and there are 1. Set "
        "them so that their product is the number of devices, one of them to -1 for what the "
        "others leave.",
    ),
    "a budget that is too small": (
        [*ASKED[1:], "--config.train.accumulate=5"],
        "A budget of 320 source tokens does not hold 5 times the longest sentence, 400 tokens. "
        "Raise data.source_tokens to at least 400, or lower data.max_length.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(jaxformer, name):
    arguments, message = MISTAKES[name]
    result = jaxformer("preflight", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"jaxformer: {message}\n"


def test_help_and_mistakes_import_nothing_that_is_slow():
    script = (
        "import sys; from jaxformer.cli.main import main; "
        "codes = [main(['preflight', '--help']), main(['preflight'])]; "
        "slow = {'jax', 'numpy', 'flax'} & set(sys.modules); "
        "sys.exit(repr((codes, slow)) if slow or codes != [0, 2] else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def on_slice(jaxformer):
    """Returns the figures of a slice; each is compiled once."""

    @functools.cache
    def foretell(topology, *arguments):
        result = jaxformer("preflight", *arguments, f"--topology={topology}", "--json")
        assert result.code == 0, result.err
        return json.loads(result.out)

    return foretell


@pytest.mark.needs("tpu-compiler")
def test_a_small_model_on_a_slice(on_slice):
    found = on_slice("v5e:2x2", *ASKED[1:])
    assert found["mesh"] == {"data": 4, "fsdp": 1, "tensor": 1}
    (step,) = found["train"]
    # Two rows of the plan, and two to fill up the devices.
    assert (step["planned_rows"], step["shape"]["rows"]) == (2, 4)
    assert 4 * step["flops"] == pytest.approx(flops_of(found), rel=0.05)
    kinds = {each["kind"]: each for each in step["collectives"]}
    # Gradients are added up over all devices, all of them at least once.
    assert kinds["all-reduce"]["devices"] == 4
    assert kinds["all-reduce"]["bytes"] >= step["memory"]["parameters"]
    bound = step["bound"]
    assert bound["seconds"] == max(bound[name] for name in ("products", "memory", "exchange"))
    hours = found["run"]["num_steps"] * bound["seconds"] / 3600
    assert found["run"]["hours"] == pytest.approx(hours)
    assert found["run"]["usual_hours"] == pytest.approx(hours / 0.4)


@pytest.mark.needs("tpu-compiler")
def test_attentions_kernel_is_compiled_for_every_chip_of_a_slice(on_slice):
    changes = "--config.model.attention=jaxformer.model:splash_attention"
    found = on_slice("v5e:2x2", *ASKED[1:], changes)
    (step,) = found["train"]
    # It makes the scores again, twice, and of rows that are filled up from 160 to 256.
    assert 1 < 4 * step["flops"] / flops_of(found) < 4
    assert found["search"]["fits"]


SLICES = {"v5e:2x2": 4, "v5e:4x4": 16, "v5p:2x2x4": 16, "v6e:16x16": 256}


# A loop over layers compiles in minutes.
LOOP = "--config.model.scan_layers=true"
# Big with the scores of attention in memory does not fit on the smallest slice.
KERNEL = {("big", "v5e:2x2"): ["--config.model.attention=jaxformer.model:splash_attention"]}


def paper(size):
    return f"--config={CONFIGS / 'wmt14_en_de.py'}:{size}"


@pytest.mark.slow
@pytest.mark.needs("tpu-compiler")
@pytest.mark.parametrize("topology", SLICES)
@pytest.mark.parametrize("size", ["base", "big"])
def test_the_papers_models_on_slices(on_slice, size, topology):
    changes = KERNEL.get((size, topology), [])
    found = on_slice(topology, paper(size), LOOP, "--no_search", *changes)
    machine, (step,) = found["machine"], found["train"]
    assert machine["chips"] == machine["devices"] == SLICES[topology]
    assert machine["devices"] * step["flops"] == pytest.approx(flops_of(found), rel=0.05)
    assert step["memory"]["total"] < machine["memory"]
    assert found["verdict"]["fits"]


@pytest.mark.slow
@pytest.mark.needs("tpu-compiler")
def test_activations_shrink_as_the_mesh_grows(on_slice):
    few, many = (
        on_slice(topology, paper("base"), LOOP, "--no_search")["train"][0]["memory"]
        for topology in ("v5e:2x2", "v5e:4x4")
    )
    assert many["temporaries"] < few["temporaries"]
    assert many["total"] < few["total"]
    assert many["parameters"] == few["parameters"]


@pytest.mark.needs("tpu-compiler")
def test_a_state_that_is_cut_shrinks_as_the_mesh_grows(on_slice):
    cut = (*ASKED[1:], "--config.parallel.data=1", "--config.parallel.fsdp=-1")
    cut = (*cut, "--config.model.vocab_multiple=8")
    few, many = (
        on_slice(topology, *cut)["train"][0]["memory"] for topology in ("v5e:2x2", "v5e:2x4")
    )
    for part in ("parameters", "optimizer"):
        # Norms and biases are copies.
        assert 0.5 * few[part] < many[part] < 0.6 * few[part]
