"""experiments/cost_growth.py: its cases, the laws beside them, and the record on disk."""

import json
import sys
import time

import pytest

from experiments import cost_growth
from experiments.benchmarks.sizes import Size
from experiments.growth import process
from experiments.growth.cases import FULL, QUICK, Case, grown, powers
from experiments.growth.laws import memory, operations
from experiments.growth.record import read
from experiments.growth.tables import local_exponent, points_of
from experiments.shared.pages import END, START
from jaxformer.io.record import read_metrics
from jaxformer.model import forward_flops

CASE = Case(Size(97, 24, 40, 3, 2, rows=5, length=64, dropout_rate=0.1))


def flops_of_a_pair(size):
    return forward_flops(
        vocab_size=size.vocab_size,
        d_model=size.d_model,
        d_ff=size.d_ff,
        num_heads=size.num_heads,
        d_k=size.d_model // size.num_heads,
        d_v=size.d_model // size.num_heads,
        num_encoder_layers=size.layers,
        num_decoder_layers=size.layers,
        source_length=size.length,
        target_length=size.length,
    )


@pytest.mark.parametrize("grid", [FULL, QUICK], ids=["full", "quick"])
def test_one_size_is_grown_while_the_others_stay(grid):
    assert len({case.name for case in grid.cases()}) == len(grid.cases())
    for (work, axis), points in grid.axes().items():
        start = grid.training if work == "training" else grid.decoding
        assert start in points.values()
        assert list(points) == sorted(points)
        for value, case in points.items():
            sizes = dict(part.split("=") for part in case.name.split("/")[1:])
            before = dict(part.split("=") for part in start.name.split("/")[1:])
            assert sizes.pop(axis) == str(value)
            del before[axis]
            if (work, axis) == ("training", "length"):
                # As many tokens in other sentences.
                assert case.size.tokens == start.size.tokens
                del sizes["batch"], before["batch"]
            assert sizes == before
            head_width = start.size.d_model // start.size.num_heads
            assert case.size.d_model == head_width * case.size.num_heads


def test_a_size_that_does_not_fit_the_others_is_refused():
    with pytest.raises(ValueError, match=r"length=321 leaves .*'rows': 0"):
        grown(CASE, "length", 321)
    with pytest.raises(ValueError, match=r"width=7 leaves .*'num_heads': 0"):
        grown(CASE, "width", 7)
    assert powers(3, 24) == (3, 6, 12, 24)


def test_operations_of_a_training_step_are_three_forward_passes():
    assert operations(CASE) == pytest.approx(3 * 5 * flops_of_a_pair(CASE.size))


def test_greedy_search_computes_what_one_pass_over_its_whole_output_does():
    """All of the cache at every position is all pairs of positions."""
    assert operations(CASE._replace(beams=1)) == 5 * flops_of_a_pair(CASE.size)


def test_hypotheses_attend_over_the_places_of_all():
    """So that attention alone grows with their square: every other cost is linear in them."""
    one, two, three = (operations(CASE._replace(beams=beams)) for beams in (1, 2, 3))
    size = CASE.size
    products = 4 * size.d_model * size.length**2
    assert three - 2 * two + one == 2 * size.rows * size.layers * products


def test_a_search_pays_for_the_room_of_its_cache():
    """128 positions at once, or the first 64 of them in half the room."""
    size = CASE.size
    case = grown(CASE._replace(beams=2), "length", 128)
    at_once = operations(case._replace(beams=1))
    three = operations(case._replace(beams=3))
    # Linear in the hypotheses but for attention, in each room.
    squares = 4 * size.rows * size.layers * size.d_model * (64 * 64 + 64 * 128)
    linear = (three - 9 * squares) - (operations(case) - 4 * squares)
    whole = 4 * size.rows * size.layers * size.d_model * 128 * 128
    assert at_once - whole + linear == operations(case) - 4 * squares


@pytest.mark.parametrize("axis", ["depth", "vocabulary", "batch"])
def test_the_laws_are_straight_lines_where_the_table_says_so(axis):
    for law in (operations, memory):
        one, two, three = (law(grown(CASE, axis, 128 * step)) for step in (1, 2, 3))
        assert three - two == pytest.approx(two - one)
        assert two > one


def test_memory_has_room_for_parameters_and_for_all_weights_of_attention():
    sizes = [grown(CASE, "length", length).size for length in (16, 32, 64)]
    short, middle, long = (memory(Case(size)) for size in sizes)
    weights = 4 * CASE.size.tokens * 2 * 3 * CASE.size.num_heads
    assert (middle - short, long - middle) == (16 * weights, 32 * weights)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Returns (function that runs the script, its folder); every process reports its law."""
    folder, cases = tmp_path / "record", {case.name: case for case in QUICK.cases()}
    measured = []

    def run_alone(python, module, arguments, *, environment, allocator):
        name, seconds = arguments
        assert (python, module) == (sys.executable, "experiments.growth.process")
        assert seconds == "--seconds=2.0"
        assert list(environment) == ["XDG_CACHE_HOME"]
        measured.append(name)
        case, turn = cases[name], 1 + (len(measured) - 1) // len(cases)
        return {
            "seconds": operations(case) * 1e-9 * (1 + turn % 3),
            "steps": 3,
            "held_bytes": 10**8,
            "plan_bytes": int(2 * memory(case)),
            **({"output_tokens": case.size.length} if case.beams else {}),
        }

    monkeypatch.setattr("experiments.growth.record.run_alone", run_alone)

    def run(*argv, output=folder):
        measured.clear()
        monkeypatch.setattr(sys, "argv", ["cost_growth", "--quick", f"--output={output}", *argv])
        return cost_growth.main()

    run.measured = measured
    return run, folder


def test_a_record_is_made_gone_on_with_and_put_on_a_page(study, tmp_path, capsys):
    run, folder = study
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{START}\nold\n{END}\n\nafter\n", encoding="utf-8")
    assert run("--passes=3", f"--page={page}") == 0
    names = sorted(case.name for case in QUICK.cases())
    ends = range(0, 3 * len(names), len(names))
    orders = [run.measured[end : end + len(names)] for end in ends]
    assert [sorted(order) for order in orders] == [names] * 3
    assert orders[0] != orders[1]
    assert "jax" in json.loads((folder / "run.json").read_text("utf-8"))["starts"][0]["versions"]

    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n\n")
    assert text.endswith("\n\nafter\n")
    assert "\nold\n" not in text
    assert (folder / "growth.md").read_text(encoding="utf-8") in text
    pictures = {
        f"{work}_{what}.png" for work in ("training", "decoding") for what in ("time", "memory")
    }
    assert {path.name for path in (tmp_path / "page").iterdir()} == pictures

    # What the processes reported are the laws themselves, so that exponents are equal.
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| training | ")]
    assert {row[1] for row in rows} == set(QUICK.training_axes)
    assert len(rows) == 2 * len(QUICK.training_axes)
    for row in rows:
        assert row[4] == row[5]
        assert row[6] == row[7].removesuffix(" |")
    assert "| training | batch | 4, 16 | b B | 1.00 ± 0.00 | 1.00 ± 0.00 |" in text
    # Passes of one, two and three times the seconds: their median, and from end to end.
    found = read(folder, QUICK)["training", "batch"]
    assert points_of(found)[0]["seconds"] == pytest.approx(
        2e-9 * operations(found[4].case), rel=1e-3
    )
    assert local_exponent(points_of(found)[:2], "seconds") == pytest.approx(1, rel=1e-3)

    # Three lines short, and torn in the last of them.
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(b"".join(lines[:-3]) + lines[-3][:9])
    capsys.readouterr()
    assert run("--passes=3") == 0
    assert len(run.measured) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1 + 3
    after = read_metrics(folder / "metrics.jsonl")
    keys = [(row["case"], row["pass"]) for row in after]
    assert keys == [(row["case"], row["pass"]) for row in map(json.loads, lines)]
    assert run("--report") == 0
    assert not run.measured


def test_mistakes_are_one_sentence(study, tmp_path, capsys, monkeypatch):
    run, _ = study
    page = tmp_path / "page.md"
    page.write_text("no marks", encoding="utf-8")
    assert run("--passes=1") == 0
    capsys.readouterr()
    smaller = QUICK._replace(training_axes={"depth": (1, 2)})
    for argv, options, grid, said in (
        (["--report"], {"output": tmp_path / "nowhere"}, QUICK, "holds no metrics.jsonl"),
        (["--report", f"--page={page}"], {}, QUICK, "lacks the lines <!-- tables"),
        ([], {}, smaller, "holds a run with other settings: "),
    ):
        monkeypatch.setattr(cost_growth, "QUICK", grid)
        assert run(*argv, **options) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert page.read_text(encoding="utf-8") == "no marks"


@pytest.mark.slow
@pytest.mark.parametrize("beams", [0, 1, 2])
def test_a_process_measures_a_case(beams):
    case = (QUICK.decoding if beams else QUICK.training)._replace(beams=beams)
    found = (process.search if beams else process.train)(case, 0.0, time.time())
    assert found["seconds"] > 0
    assert found["steps"] == 3
    # The law is near what the compiler lays out, and all of an output was decoded.
    assert memory(case) / 2 < found["plan_bytes"] < 3 * memory(case)
    assert found.get("output_tokens", 0) == (case.size.length if beams else 0)
