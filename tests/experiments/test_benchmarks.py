"""The benchmark's own parts: statistics, figures, arguments, and our side on a tiny model.

The whole of it is run on that model, with the peers where they are installed.
"""

import copy
import importlib.util
import io
import json
import os
import sys
import time

import numpy as np
import pytest

from experiments.benchmarks import (
    bench,
    end_to_end,
    figures,
    ours,
)
from experiments.benchmarks.sizes import EOS, SIZES, pieces, read_batches, write_batches
from experiments.benchmarks.summary import best, ratios, spread
from experiments.shared import processes, timing
from jaxformer.run import allocator
from jaxformer.run.progress import Progress

SMOKE = SIZES["smoke"]


def test_medians_spreads_and_ratios():
    assert spread([5.0, 1.0, 2.0]) == {"median": 2.0, "least": 1.0, "most": 5.0}
    # Pass by pass: the second pass was slow for both.
    assert ratios([6.0, 2.0, 9.0], [3.0, 1.0, 3.0]) == {"median": 2.0, "least": 2.0, "most": 3.0}
    assert best({"a": [1.0, 9.0, 2.0], "b": [3.0, 3.0, 3.0]}) == "b"
    assert best({}) is None
    with pytest.raises(ValueError, match="no figure"):
        spread([])
    with pytest.raises(ValueError, match="2 figures cannot be divided by 1"):
        ratios([1.0, 2.0], [1.0])


def test_batches_come_back_full_and_the_same(tmp_path):
    path, again = tmp_path / "a.npy", tmp_path / "b.npy"
    write_batches(path, SMOKE)
    write_batches(again, SMOKE)
    assert path.read_bytes() == again.read_bytes()
    batches = read_batches(path)
    for batch in batches:
        for token_BT in batch:
            assert (token_BT.shape, token_BT.dtype) == ((62, 6), np.int32)
            assert (token_BT[:, -1] == EOS).all()
            assert token_BT[:, :-1].min() >= 4
            assert token_BT.max() < SMOKE.vocab_size
    assert len({batch[0].tobytes() for batch in batches}) == len(batches)
    assert len(set(pieces(SMOKE))) == SMOKE.vocab_size


def test_operations_of_a_step_are_those_of_the_record():
    # 6 operations a parameter and token as a rule of thumb, and attention.
    assert figures.training_flops(SIZES["tiny"]) == pytest.approx(15.8e6, rel=0.01)
    assert figures.training_flops(SIZES["base"]) == pytest.approx(381e6, rel=0.01)


def trained(rate, first, memory=100):
    return {
        "tokens_per_second": rate, "first_step_seconds": first, "peak_bytes": memory,
        "peak_bytes_steps": memory,
    }  # fmt: skip


def test_the_line_compares_the_best_with_the_best_where_the_peer_is_fastest():
    results = {
        "train tiny glibc": {
            "jaxformer float32": [trained(900.0, 9.0)] * 2,
            "PyTorch float32": [trained(100.0, 1.0)] * 2,
        },
        "train tiny jemalloc": {
            "jaxformer float32": [trained(500.0, 20.0, 60), trained(500.0, 2.0, 60)],
            "jaxformer products float32": [trained(550.0, 20.0, 54), trained(550.0, 2.0, 54)],
            "jaxformer bfloat16": [trained(600.0, 30.0), trained(600.0, 3.0)],
            "PyTorch float32": [trained(200.0, 1.0, 120)] * 2,
            "Marian bfloat16": [trained(300.0, 1.0, 400), trained(150.0, 1.0, 400)],
        },
        "decode tiny jemalloc": {
            "jaxformer float32": [{"sentences_per_second": 90.0, "peak_bytes": 1}] * 2,
            "CTranslate2 float32, workers: 1": [{"sentences_per_second": 60, "peak_bytes": 1}] * 2,
            "CTranslate2 float32, workers: 2": [{"sentences_per_second": 120, "peak_bytes": 1}] * 2,
        },
        "end to end": {"jaxformer": [{"share": 0.9}, {"share": 1.0}]},
    }
    ceiling = {
        "jaxformer": {"float32": {"a": 1e10, "b": 2e10}, "bfloat16": {"a": 4e10}},
        "PyTorch": {"float32": {"a": 1.5e10}, "bfloat16": {"a": 3e10}},
    }
    summary, line = figures.summarise(results, ceiling, ["tiny"])
    assert list(line) == list(figures.LINE)
    # 600 / 300 and 600 / 150.
    assert line["train_tiny_vs_torch"] == 3.0
    assert line["decode_vs_ctranslate2"] == 0.75
    assert line["first_step_warm_s"] == 3.0
    assert line["mfu_tiny"] == pytest.approx(600 * 15.8e6 / 4e10, rel=0.01)
    assert line["train_base_vs_torch"] is line["mfu_base"] is line["padding"] is None
    group = summary["train tiny jemalloc"]
    assert group["fastest"] == {"jaxformer": "jaxformer bfloat16", "torch": "Marian bfloat16"}
    assert group["against_torch_float32"]["median"] == 2.75
    assert group["memory_against_torch_float32"]["median"] == 0.45
    assert group["memory_against_torch"]["median"] == 0.25
    variant = group["variants"]["jaxformer bfloat16"]
    assert variant["utilisation_float32"] == pytest.approx(2 * variant["utilisation"])
    assert variant["first_step_cold_seconds"] == 30.0
    assert summary["end to end"]["share"]["median"] == pytest.approx(0.95)
    json.dumps([summary, line], allow_nan=False)


def test_without_peers_and_with_one_pass_there_are_figures_of_ours():
    results = {"train tiny kept": {"jaxformer float32": [trained(500.0, 20.0)]}}
    summary, line = figures.summarise(results, {"jaxformer": {"float32": {"a": 1e10}}}, ["tiny"])
    assert line["train_tiny_vs_torch"] is line["first_step_warm_s"] is None
    assert line["mfu_tiny"] == pytest.approx(500 * 15.8e6 / 1e10, rel=0.01)
    assert "against_torch" not in summary["train tiny kept"]


def test_with_one_pass_our_fastest_variant_of_tiny_starts_again(monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys, "argv", ["bench", "--output=x", "--allocators=kept", f"--peers={sys.executable}"]
    )
    monkeypatch.setattr(bench, "measure", lambda chosen: seen.append(chosen) or sys.exit())
    seen, started = [], []
    with pytest.raises(SystemExit):
        bench.main()
    jobs = list(bench.plan(seen[0], tmp_path))

    def run(python, module, arguments, *, allocator):
        started.append((python, module, arguments, allocator))
        return trained(1.0, 3.5)

    def passes(number):
        rates = {name: 100.0 + place for place, name in enumerate(bench.OURS)}
        variants = {name: [trained(rate, 20.0)] * number for name, rate in rates.items()}
        torch = {"PyTorch float32": [trained(900.0, 1.0)] * number}
        return {f"train {size} kept": {**variants, **torch} for size in ("base", "tiny")}

    decoded = {"jaxformer float32": [{"sentences_per_second": 90.0, "peak_bytes": 1}]}
    results = {**copy.deepcopy(passes(1)), "decode tiny kept": decoded}
    bench.start_again(jobs, results, run)
    ((python, module, arguments, allocator),) = started
    assert (python, module) == (sys.executable, bench.OURS_MODULE)
    # The fastest is the last of ours.
    assert arguments[:3] == ("train", "--dtype=bfloat16", "--size=tiny")
    assert arguments[-1] == "--seconds=0.1"
    assert allocator == processes.allocators()["kept"]
    summary, line = figures.summarise(results, {}, ["tiny", "base"])
    assert line["first_step_warm_s"] == 3.5
    variant = summary["train tiny kept"]["variants"]["jaxformer bfloat16"]
    assert (variant["first_step_cold_seconds"], variant["rate"]["median"]) == (
        20.0,
        99.0 + len(bench.OURS),
    )
    bench.start_again(jobs, passes(2), run)
    assert len(started) == 1


MISTAKES = {
    "--sizes=huge": "--sizes has 'huge'; choose from tiny, base, smoke",
    "--allocators=glibc,bad": "--allocators has 'bad'; choose from glibc, kept",
    "--passes=0": "--passes=0 measures nothing; give 1 or more",
    "--peers=nowhere": "--peers=nowhere is no file; `make bench` makes that environment",
    "--output=nowhere/bench.json": "--output=nowhere/bench.json is in no folder; make it",
    "--pases=3": "unrecognized arguments: --pases=3",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_wrong_argument_is_one_sentence(argument, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "--output=bench.json", argument])
    with pytest.raises(SystemExit) as raised:
        bench.main()
    out, err = capsys.readouterr()
    assert (raised.value.code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"bench: error: {MISTAKES[argument]}")
    assert list(tmp_path.iterdir()) == []


def test_all_sides_have_the_same_jobs_and_every_allocator_is_for_all(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["bench", "--output=x", f"--peers={sys.executable}"])
    monkeypatch.setattr(bench, "measure", lambda chosen: seen.append(chosen) or sys.exit())
    monkeypatch.delenv("BENCH_QUICK", raising=False)
    seen = []
    for quick in (False, True):
        if quick:
            monkeypatch.setenv("BENCH_QUICK", "1")
        with pytest.raises(SystemExit):
            bench.main()
    groups = []
    for chosen in seen:
        jobs = list(bench.plan(chosen, tmp_path))
        names = {}
        for job in jobs:
            names.setdefault(job.group, []).append(job.name)
        groups.append(names)
        assert len({job.group for job in jobs if job.group.startswith("decode")}) == 1
    whole, quick = groups
    for names in (*whole.values(), *quick.values()):
        assert names[0].startswith("jaxformer")
        assert any(name.startswith(("PyTorch", "CTranslate2")) for name in names)
    assert whole["train tiny glibc"] == whole[f"train tiny {seen[0].allocators[-1]}"]
    assert any(name.startswith("Marian") for name in whole["train tiny glibc"])
    assert len(seen[1].allocators) == 1
    assert seen[1].seconds < seen[0].seconds


@pytest.mark.slow
@pytest.mark.parametrize("is_alone", [True, pytest.param(False, marks=pytest.mark.needs("torch"))])
def test_the_whole_benchmark_ends_with_its_line(is_alone, monkeypatch, capsys, tmp_path):
    peers = [] if is_alone else [f"--peers={sys.executable}"]
    if peers:
        pytest.importorskip("ctranslate2", reason="`pip install .[export]` brings it")
    if importlib.util.find_spec("transformers") is None:
        # Marian's model is from there.
        monkeypatch.setattr(bench, "PEERS", bench.PYTORCH)
    output = tmp_path / "bench.json"
    monkeypatch.setattr(
        sys, "argv",
        [
            "bench", f"--output={output}", "--sizes=smoke", "--passes=1", "--seconds=0.1",
            "--allocators=kept", *peers,
        ],
    )  # fmt: skip
    monkeypatch.setenv("BENCH_QUICK", "0")
    assert bench.main() == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    record = json.loads(output.read_text(encoding="utf-8"))
    assert record["line"] == line
    # None of its figures is of this size, but for the padding where the captions are at hand.
    assert {name: line[name] for name in line if name != "padding"} == dict.fromkeys(
        name for name in figures.LINE if name != "padding"
    )
    assert set(record["results"]) == {"train smoke kept", "decode smoke kept", "end to end"}
    trained, decoded = (record["results"][f"{what} smoke kept"] for what in ("train", "decode"))
    assert set(trained) == {*bench.OURS, *(bench.PEERS if peers else ())}
    assert any(name.startswith("CTranslate2") for name in decoded) == bool(peers)
    assert all(found["loss"] < 8 for name in bench.OURS for found in trained[name])
    assert record["summary"]["end to end"]["share"]["median"] > 0
    # What each takes for the score of an output that meets the limit tells the beams of so small a
    # model apart: ours has EOS in it.
    for name, least in (("same_greedy_outputs", 0.9), ("same_beam_outputs", 0.3)):
        assert least < record[name] <= 1 if peers else record[name] is None


def test_an_allocator_is_chosen_from_outside_only(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    environment = processes.clean_environment()
    assert not {"LD_PRELOAD", "MALLOC_ARENA_MAX", "JAX_COMPILATION_CACHE_DIR"} & environment.keys()
    assert environment["PATH"] == os.environ["PATH"]
    assert processes.allocators()["glibc"] == {}


def test_the_allocators_are_those_that_are_there(monkeypatch):
    monkeypatch.setattr(processes.ctypes.util, "find_library", lambda name: None)
    assert list(processes.allocators()) == ["glibc", "kept"]
    monkeypatch.setattr(processes.ctypes.util, "find_library", lambda name: f"lib{name}.so.2")
    found = processes.allocators()
    assert list(found) == ["glibc", "kept", "jemalloc", "jemalloc_kept"]
    assert found["jemalloc"] == {"LD_PRELOAD": "libjemalloc.so.2"}
    assert found["jemalloc_kept"] == found["jemalloc"] | processes.KEEP_FREED_JEMALLOC


def test_the_environment_says_what_jaxformer_sets():
    names = {-1: "TRIM_THRESHOLD", -2: "TOP_PAD", -4: "MMAP_MAX", -8: "ARENA_MAX"}
    said = {
        f"MALLOC_{names[parameter]}{'' if parameter == -8 else '_'}": str(value)
        for parameter, value in allocator._MALLOPT
    }
    assert said == processes.KEEP_FREED
    decays = ",".join(f"{decay}:{allocator._NEVER}" for decay in allocator._DECAYS)
    assert {"MALLOC_CONF": decays} == processes.KEEP_FREED_JEMALLOC


def test_steps_are_timed_from_the_start_and_without_the_first():
    taken = []

    def step(number):
        taken.append(number)
        time.sleep(0.2 if number == 0 else 0.01)

    found = timing.time_steps(step, lambda: None, seconds=0.1, started=time.time() - 100)
    assert found["first_step_seconds"] >= 100.2
    assert 0.01 <= found["step_seconds"] < found["first_step_seconds"]
    assert found["steps"] >= 3
    assert taken == list(range(found["steps"] + 2))
    assert found["peak_bytes"] >= found["peak_bytes_steps"] > 10 * 2**20


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Returns the function that runs a process of ours on the tiniest model."""
    folder = tmp_path_factory.mktemp("smoke")
    write_batches(folder / "smoke.npy", SMOKE)

    def run(what, *arguments, folder=folder):
        given = ("--size=smoke", f"--batches={folder / 'smoke.npy'}", "--seconds=0.01")
        return processes.run_alone(
            sys.executable,
            "experiments.benchmarks.ours",
            [what, *given, *arguments],
            allocator={},
            environment={
                name: os.environ[name]
                for name in (
                    "JAX_COMPILATION_CACHE_DIR",
                    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
                )
            },
        )

    return run


def test_our_step_runs_in_the_type_asked_for(smoke):
    found = smoke("train", "--dtype=bfloat16")
    assert found["tokens_per_second"] == pytest.approx(372 / found["step_seconds"])
    assert found["first_step_seconds"] > found["step_seconds"]
    # A little above the logarithm of the vocabulary's size.
    assert 4.4 < found["loss"] < 8
    models = [ours.make_model(SMOKE, dtype, None) for dtype in ("float32", "bfloat16")]
    models.append(ours.make_model(SMOKE, "float32", "bfloat16"))
    assert [model.dtype.name for model in models] == ["float32", "bfloat16", "float32"]
    assert [model.product_dtype for model in models] == [None, None, "bfloat16"]


def test_our_decoder_runs_to_the_limit(smoke, tmp_path):
    output = tmp_path / "outputs.json"
    found = smoke("decode", "--steps=7", f"--output={output}")
    assert found["sentences"] == 124
    assert found["sentences_per_second"] > 0
    rows = json.loads(output.read_text(encoding="utf-8"))
    assert len(rows) == 124
    assert {len(row) for row in rows} == {7}
    assert all("</s>" in row and set(row) <= set(pieces(SMOKE)) for row in rows)


def test_a_process_that_fails_says_why(smoke, tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 1:.*No such file.*smoke\.npy"):
        smoke("train", folder=tmp_path)


def test_the_corpus_is_of_the_size_asked_for(tmp_path):
    end_to_end.write_corpus(tmp_path, SIZES["tiny"])
    sides = [(tmp_path / f"train.{side}").read_text().splitlines() for side in ("source", "target")]
    assert len(sides[0]) == len(sides[1]) > 10_000
    lengths = {len(line.split()) for side in sides for line in side}
    assert (min(lengths), max(lengths)) == (7, 14)
    assert sides[0] != sides[1]


def test_a_training_is_timed_by_what_it_prints():
    stream = io.StringIO()
    metrics = {"loss": 2.0, "source_tokens": 3.0, "target_tokens": 3.0}
    with Progress(stream, 1200) as progress:
        for step in (999, 1000, 1200):
            progress.step(step, metrics, 6, 1.0)
            progress.row({**metrics, "step": step, "learning_rate": 0.1, "padding": 0.0})
    said = [*stream.getvalue().splitlines(True), "Trained to step 1,200: runs/x\n"]
    seen = [(10.0 * number, line) for number, line in enumerate(said)]
    assert end_to_end.seconds_after(seen, 1000) == 20.0
    for lines, step in ((seen[:-1], 1000), (seen, 100)):
        with pytest.raises(RuntimeError, match=f"has not said when it was at step {step}"):
            end_to_end.seconds_after(lines, step)
