"""experiments/table1_complexity.py: its layers, how costs are counted, and the record on disk."""

import functools
import json
import math
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import table1_complexity
from experiments.shared.fitting import crossing, fit_powers, fit_sums
from experiments.shared.pages import END, START
from experiments.shared.passes import shuffled
from experiments.table1.cases import Case, Grid, cases, prepare
from experiments.table1.layers import LAYERS, convolve, recur
from experiments.table1.paths import path_length
from experiments.table1.program import flops, loop_flops, sequential_products
from jaxformer.io.record import read_metrics

T, D = 11, 8
GRID = Grid(
    lengths=(64, 128),
    widths=(8, 16),
    sizes=(("convolutional", 64, 8, (5, 7)), ("restricted", 128, 8, (37,))),
)


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def params_of(name, width=D):
    return LAYERS[name].draw(np.random.default_rng(0), width, LAYERS[name].size)


def test_the_recurrent_layer_is_an_lstm():
    params, x_TD = params_of("recurrent"), vectors(T, D)
    params["bias_F"] = vectors(4 * D)
    theirs = {}
    for number, gate in enumerate("ifgo"):
        part = slice(number * D, (number + 1) * D)
        theirs[f"i{gate}"] = {"kernel": params["input_DF"][:, part]}
        theirs[f"h{gate}"] = {
            "kernel": params["hidden_DF"][:, part],
            "bias": params["bias_F"][part],
        }
    expected_TD = nn.RNN(nn.LSTMCell(D)).apply({"params": {"cell": theirs}}, x_TD)
    np.testing.assert_allclose(recur(params, x_TD), expected_TD, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dilation", [1, 3])
def test_the_convolutional_layer_is_a_convolution(dilation):
    params, x_TD = {"kernel_CDD": vectors(5, D, D, seed=1)}, vectors(T, D)
    (expected_TD,) = jax.lax.conv_general_dilated(
        x_TD[None],
        params["kernel_CDD"],
        window_strides=(1,),
        padding=[(4 * dilation, 0)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    found_TD = convolve(params, x_TD, dilation=dilation)
    np.testing.assert_allclose(found_TD, expected_TD, rtol=0, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "training"])
def test_the_operations_of_a_loop_are_those_of_its_turns_written_out(direction):
    length = 8
    arguments = params_of("recurrent"), vectors(length, D)

    def lowered(unroll):
        run = functools.partial(recur, unroll=unroll)

        def train(params, x_TD):
            y_TD, pullback = jax.vjp(run, params, x_TD)
            return y_TD, pullback(x_TD)

        return jax.jit(run if direction == "forward" else train).lower(*arguments)

    whole = flops(lowered(length))
    # Written out, some versions of jax leave out what is added to zeros in the first turn.
    assert loop_flops(lowered(1), lowered(2), length) == pytest.approx(whole, rel=0.04)
    # Of the products alone, and what XLA makes of the loop as it is.
    times = 1 if direction == "forward" else 3
    assert whole > times * 2 * length * 2 * D * 4 * D
    assert flops(lowered(1)) < 0.7 * whole


def test_the_operations_of_a_convolution_are_its_products():
    program = prepare(Case("convolutional", "forward", 64, 16, 3))
    assert flops(program.lowered) == pytest.approx(2 * 3 * 64 * 16**2, rel=0.05)


def test_products_that_wait_for_one_another():
    one_TT = vectors(T, T)

    def two_in_a_row_and_one_beside(x_TT):
        return jax.jit(lambda y_TT: y_TT @ one_TT)(jnp.tanh(x_TT @ one_TT)) + x_TT @ x_TT

    def scan(step):
        return lambda x_TT: jax.lax.scan(step, x_TT[0], x_TT)

    assert sequential_products(two_in_a_row_and_one_beside, one_TT) == 2
    assert sequential_products(scan(lambda h_T, x_T: (h_T @ one_TT + x_T, h_T)), one_TT) == T
    assert sequential_products(scan(lambda h_T, x_T: (h_T + x_T @ one_TT, h_T)), one_TT) == 1
    assert sequential_products(jnp.tanh, one_TT) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("attention", 2),
        # Those of keys and queries, of Eq. 1, and W^O.
        ("attention_projected", 4),
        # The inputs' products are made at once; the first state's needs none of them.
        ("recurrent", 70),
        ("convolutional", 1),
        ("dilated", 1),
        ("restricted", 2),
    ],
)
def test_sequential_products_of_a_layer(name, expected):
    run = LAYERS[name].make(D, LAYERS[name].size)
    assert sequential_products(run, params_of(name), vectors(70, D)) == expected


PATHS = {
    "attention": lambda n: 1,
    "attention_projected": lambda n: 1,
    "recurrent": lambda n: n - 1,
    "convolutional": lambda n: math.ceil((n - 1) / 2),
    # Three times as far with every layer: 2 (1 + 3 + 9 + ...) positions.
    "dilated": lambda n: math.ceil(math.log(n, 3) - 1e-9),
    # Half of 33 positions on either side.
    "restricted": lambda n: math.ceil((n - 1) / 16),
}


@pytest.mark.parametrize("name", PATHS)
def test_the_longest_path(name):
    for length in (65, 100):
        assert path_length(name, length) == PATHS[name](length)


@pytest.mark.parametrize("name", ["dilated", "restricted"])
def test_the_longest_path_is_the_fewest_layers_with_a_gradient_from_end_to_end(name):
    length, params = 65, params_of(name)

    def gradient(count):
        def last(x_TD):
            for number in range(count):
                run = functools.partial(convolve, dilation=3**number)
                run = run if name == "dilated" else LAYERS[name].make(D, LAYERS[name].size)
                x_TD = run(params, x_TD)
            return jnp.sum(x_TD[-1])

        return jax.jit(jax.grad(last))(vectors(length, D))

    count = path_length(name, length)
    assert count > 1
    assert np.any(gradient(count)[0])
    assert not np.any(gradient(count - 1)[0])


def test_exponents_are_found_with_their_error():
    generator = np.random.default_rng(0)
    points = [
        {"n": n, "d": d, "cost": 7 * n**2 * d * math.exp(0.1 * generator.normal())}
        for n in (64, 256, 1024, 4096)
        for d in (16, 64, 256)
    ]
    fit = fit_powers(points, "cost", ["n", "d"])
    for name, exponent in (("n", 2), ("d", 1)):
        assert abs(fit.exponents[name] - exponent) < 3 * fit.errors[name]
        assert 0.005 < fit.errors[name] < 0.05
    exact = [{**point, "cost": point["n"] ** 1.5} for point in points]
    fit = fit_powers(exact, "cost", ["n", "d"])
    assert fit.exponents == pytest.approx({"n": 1.5, "d": 0.0}, abs=1e-9)
    assert max(fit.errors.values()) < 1e-9
    with pytest.raises(ValueError, match="2 points do not determine the exponents of n, d"):
        fit_powers(points[:2], "cost", ["n", "d"])
    with pytest.raises(ValueError, match="3 points do not determine the exponents of n, d"):
        fit_powers(points[:3], "cost", ["n", "d"])


def test_growth_with_a_logarithm_is_a_sum():
    points = [{"log": log, "value": 3 + 2 * log} for log in (1.0, 2.0, 4.0)]
    fit = fit_sums(points, "value", ["log"])
    assert fit.exponents["log"] == pytest.approx(2)
    assert fit.errors["log"] < 1e-9


def test_where_one_cost_passes_another():
    lengths = [16, 64, 256, 1024]
    square, line = [n**2 for n in lengths], [100 * n for n in lengths]
    assert crossing(lengths, square, line) == pytest.approx(100)
    assert crossing(lengths, line, square) is None
    assert crossing(lengths[2:], square[2:], line[2:]) is None
    # What passes twice counts from the last time on.
    assert crossing(lengths, [2, 1, 2, 2], [1, 2, 1, 1]) == pytest.approx(128)


def test_every_pass_has_an_order_of_its_own():
    found = cases(GRID)
    orders = [list(shuffled(found, seed)) for seed in (1, 2)]
    assert all(sorted(order) == sorted(found) for order in orders)
    assert orders[0] != orders[1] != found


def test_a_case_is_read_from_its_name():
    assert all(Case.from_name(case.name) == case for case in cases(GRID))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Returns the function that runs the script on a small grid, and a finished record."""
    folder = tmp_path_factory.mktemp("study") / "record"

    def run(*argv, output=folder, grid=GRID):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table1_complexity, "QUICK", grid)
            patch.setattr("experiments.table1.cases._ENOUGH", 0.0)
            patch.setattr(
                sys, "argv", ["table1_complexity", "--quick", f"--output={output}", *argv]
            )
            return table1_complexity.main()

    assert run("--passes=2") == 0
    return run, folder


@pytest.mark.slow
def test_the_record_holds_every_case_in_every_pass(study):
    _, folder = study
    rows = read_metrics(folder / "metrics.jsonl")
    names = {case.name for case in cases(GRID)}
    assert {row["case"] for row in rows if "flops" in row} == names
    for turn in (1, 2):
        assert {row["case"] for row in rows if row.get("pass") == turn} == names
    assert len(rows) == len(names) * 3 + len(LAYERS) * len(GRID.lengths)
    assert json.loads((folder / "config.json").read_text("utf-8"))["widths"] == [8, 16]
    assert "jax" in json.loads((folder / "run.json").read_text("utf-8"))["starts"][0]["versions"]


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(study, tmp_path, capsys, monkeypatch):
    run, folder = study
    prepared = []
    monkeypatch.setattr(
        "experiments.table1.record.prepare", lambda case: prepared.append(case) or prepare(case)
    )
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    output = tmp_path / "record"
    output.mkdir()
    (output / "config.json").write_bytes((folder / "config.json").read_bytes())
    # Five lines short, and torn in the sixth.
    (output / "metrics.jsonl").write_bytes(b"".join(lines[:-6]) + lines[-6][:9])
    assert run("--passes=2", output=output) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1 + 6
    after = (output / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert after[:-6] == lines[:-6]
    keys = [
        {
            tuple(json.loads(line).get(name) for name in ("path", "n", "case", "pass"))
            for line in each
        }
        for each in (lines, after)
    ]
    assert keys[0] == keys[1]
    # What is on record is not compiled either.
    assert 0 < len(prepared) <= 6


@pytest.mark.slow
def test_a_page_gets_tables_and_pictures(study, tmp_path, capsys):
    run, folder = study
    page = tmp_path / "page.md"
    marks = f"before\n\n{START}\nold\n{END}\n\nafter\n"
    page.write_text(marks, encoding="utf-8")
    assert run("--report", f"--page={page}") == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n\n")
    assert text.endswith("\n\nafter\n")
    assert "\nold\n" not in text
    tables = (folder / "table1.md").read_text(encoding="utf-8")
    assert tables in text
    assert tables in capsys.readouterr().out
    # What does not depend on the clock comes out as the paper has it.
    (row,) = [
        line for line in tables.splitlines() if line.startswith("| convolutional, stacked | O(k n")
    ]
    assert row.split(" | ")[2] == "n 1.00 ± 0.00, d 1.97 ± 0.00, k 1.01 ± 0.00"
    # Two lengths are no fit.
    assert "| recurrent (LSTM) | O(n) | 64, 128 | O(n) | 63, 127 |" in tables
    names = {path.name for path in (tmp_path / "page").iterdir()}
    assert names == {"time.png", "flops.png", "memory.png", "paths.png"}
    # Made again, it stays as it is.
    assert run("--report", f"--page={page}") == 0
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_mistakes_are_one_sentence(study, tmp_path, capsys):
    run, _ = study
    page = tmp_path / "page.md"
    page.write_text("no marks", encoding="utf-8")
    for argv, options, said in (
        (["--report"], {"output": tmp_path / "nowhere"}, "holds no metrics.jsonl"),
        (["--report", f"--page={page}"], {}, "lacks the lines <!-- tables"),
        ([], {"grid": GRID._replace(widths=(8,))}, "holds a run with other settings: widths is"),
    ):
        assert run(*argv, **options) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert page.read_text(encoding="utf-8") == "no marks"
