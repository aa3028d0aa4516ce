"""Plain forms against the tricks whose places they take, and the table of what tricks are worth."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.benchmarks import leads, ours, plain_forms
from experiments.benchmarks.leads_table import LEADS, NOT_MEASURED, VARIANTS, table_of
from experiments.benchmarks.sizes import SIZES, draw_batches, draw_sentences
from experiments.shared.processes import ROOT
from jaxformer import train
from jaxformer.data import pipeline
from jaxformer.decode import search
from jaxformer.model import EOS, Dropout
from jaxformer.run.translation import make_decode
from tests.closeness import is_close

SMOKE = SIZES["smoke"]
SOURCE_BS, TARGET_BT = draw_batches(SMOKE)[0]
BATCH = {"source_BS": SOURCE_BS, "target_BT": TARGET_BT}


@pytest.fixture(scope="module")
def params():
    return ours.draw_params(ours.make_model(SMOKE, "float32", None))


def differentiated(form, params, product_dtype=None):
    """Returns rate of dropout -> (loss, gradient), with a form in place."""
    with pytest.MonkeyPatch.context() as patch:
        plain_forms.FORMS[form](patch.setattr)
        model = ours.make_model(SMOKE, "float32", product_dtype)

        def loss(params, rate):
            dropout = Dropout.create(jax.random.key(3), rate, jnp.arange(SMOKE.rows))
            return train.loss_sums(model, params, BATCH, 0.1, dropout).loss

        compiled = jax.jit(jax.value_and_grad(loss)).lower(params, jnp.float32(0)).compile()
    return lambda rate: compiled(params, jnp.float32(rate))


@pytest.fixture(scope="module")
def trick(params):
    """Returns rate of dropout -> (loss, gradient) of the step as it is."""
    return differentiated("as_it_is", params)


def is_same(found, expected, tolerance=1e-5):
    (loss, gradient), (expected_loss, expected_gradient) = found, expected
    leaves = zip(*map(jax.tree.leaves, (gradient, expected_gradient)), strict=True)
    return is_close(loss, expected_loss, tolerance) and all(
        is_close(*pair, tolerance) for pair in leaves
    )


# A loop over the layers is compared in tests/model/test_stack.py.
@pytest.mark.parametrize("form", ["whole_logits", "fused_projections"])
def test_a_plain_step_is_the_step(form, params, trick):
    assert is_same(differentiated(form, params)(0.1), trick(0.1))


def test_without_dropout_its_generator_is_nothing(params, trick):
    found = differentiated("threefry_dropout", params)
    assert is_same(found(0.0), trick(0.0))
    assert not is_same(found(0.1), trick(0.1))


def test_products_in_bfloat16_are_near(params, trick):
    found, expected = differentiated("as_it_is", params, "bfloat16")(0.1), trick(0.1)
    for one, other in zip(found, expected, strict=True):
        assert is_close(ravel_pytree(one)[0], ravel_pytree(other)[0], 0.05)
    assert not is_same(found, expected)


def test_a_state_is_written_over_unless_it_is_kept(monkeypatch):
    asked = []
    for form in ("as_it_is", "kept_state"):
        plain_forms.FORMS[form](monkeypatch.setattr)
        state, step = ours.make_step(SMOKE, "float32", None)
        given = step.lower(state, BATCH).args_info[0][0]
        asked.append({leaf.donated for leaf in jax.tree.leaves(given)})
    assert asked == [{True}, {False}]


def test_the_layers_are_a_loop_where_they_are_to_be(monkeypatch):
    plain_forms.scanned_layers(monkeypatch.setattr)
    assert ours.make_model(SMOKE, "float32", None).scan_layers


def test_threefry_drops_at_the_rate_anew_in_every_place(monkeypatch):
    plain_forms.threefry_dropout(monkeypatch.setattr)
    x_BTD = jnp.ones((7, 50, 64))
    dropout = Dropout.create(jax.random.key(3), 0.3, jnp.arange(7))
    one, other = (np.asarray(dropout.fold(place)(x_BTD)) for place in ("a", "b"))
    for out_BTD in (one, other):
        np.testing.assert_allclose(np.unique(out_BTD), [0.0, 1 / 0.7], rtol=1e-6)
        # Five standard deviations of a mean of 22,400.
        assert np.mean(out_BTD == 0.0) == pytest.approx(0.3, abs=0.0155)
    # 1 - 2 * 0.3 * 0.7 of the entries agree where masks do not know of each other.
    assert np.mean(one == other) == pytest.approx(0.58, abs=0.017)


def compare_on_two_devices():
    """Prints whether the step of two devices is that of one; for a process that has two."""
    assert len(jax.devices()) == 2
    found = []
    for form in ("as_it_is", "two_devices"):
        with pytest.MonkeyPatch.context() as patch:
            plain_forms.FORMS[form](patch.setattr)
            state, step = ours.make_step(SMOKE, "float32", None)
            compiled = step.lower(state, BATCH).compile()
            # The sum of the gradients is told to both.
            assert ("all-reduce" in compiled.as_text()) == (form == "two_devices")
            after, metrics = step(state, BATCH)
            found.append((metrics["loss"], after.opt_state))
    assert is_same(*found)
    print("the same")


@pytest.mark.slow
def test_a_step_on_two_devices_is_the_step():
    call = "from tests.experiments.test_leads import *; compare_on_two_devices()"
    done = subprocess.run(
        [sys.executable, "-c", call],
        cwd=ROOT,
        env={**os.environ, **VARIANTS["two devices"].environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "the same\n", done.stderr


def searched(form, params):
    """Returns the best outputs of a model of large weights, whose past matters much."""
    with pytest.MonkeyPatch.context() as patch:
        plain_forms.FORMS[form](patch.setattr)
        model = ours.make_model(SMOKE, "float32", None)
        decode = make_decode(model, num_beams=3, alpha=0.6, extra_length=5)
        return np.asarray(decode(jax.tree.map(lambda leaf: 3 * leaf, params), SOURCE_BS))


@pytest.fixture(scope="module")
def outputs(params):
    return searched("as_it_is", params)


@pytest.mark.parametrize(
    "form", ["copied_hypotheses", "memory_of_each_hypothesis", "rows_of_hypotheses"]
)
def test_a_plain_search_is_the_search(form, outputs, params):
    assert len(np.unique(outputs, axis=0)) > 30
    np.testing.assert_array_equal(searched(form, params), outputs)


def test_plain_top_k_finds_the_same(monkeypatch):
    logits_BMW = 3 * jax.random.normal(jax.random.key(0), (5, 3, 60))
    log_prob_BM = -jnp.arange(15.0).reshape(5, 3)

    def found():
        def find(logits_BMW):
            normaliser_BM = search.log_normaliser(logits_BMW)
            best = search.best_continuations(logits_BMW, log_prob_BM, normaliser_BM, 6)
            return normaliser_BM, *best

        return jax.jit(find)(logits_BMW)

    expected = found()
    plain_forms.plain_top_k(monkeypatch.setattr)
    for one, other in zip(found(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_sentences_in_order_are_all_there_in_more_slots(monkeypatch):
    sources = draw_sentences(SMOKE)
    assert len({len(source) for source in sources}) > 20
    assert all(source[-1] == EOS and EOS not in source[:-1] for source in sources)
    by_length = list(pipeline.source_batches(sources, 256))
    plain_forms.order_of_input(monkeypatch.setattr)
    in_order = list(pipeline.source_batches(sources, 256))
    for batches in (by_length, in_order):
        indices = np.concatenate([batch.indices for batch in batches]).tolist()
        assert sorted(indices) == list(range(len(sources)))
        assert (indices == sorted(indices)) == (batches is in_order)
        for batch in batches:
            assert batch.source_BS.size <= 256
            for row_S, index in zip(batch.source_BS, batch.indices, strict=False):
                np.testing.assert_array_equal(row_S[row_S != 0], sources[index])
    slots = [sum(batch.source_BS.size for batch in batches) for batches in (by_length, in_order)]
    assert slots[0] < slots[1]


def test_tokens_a_slot_of_a_plain_plan():
    lengths = np.array([3, 4]), np.array([5, 8])
    # Rows of 4 + 8 slots for both pairs.
    assert leads.tokens_a_slot(*lengths, 100)["rows of a pair"] == 20 / 24
    found = leads.tokens_a_slot(*leads.draw_lengths(3000), 2500)
    assert found["rows of a pair"] < found["packed rows"] < 1


def test_every_lead_is_measured_or_says_why_not():
    for lead in LEADS.values():
        assert bool(lead.why) != bool(lead.trick and lead.plain)
        works = {VARIANTS[name].work for name in lead.variants}
        assert len(works) <= 1
        assert len(lead.variants) in (0, 2)
    measured = {name for lead in LEADS.values() for name in lead.variants}
    assert measured == set(VARIANTS)
    assert {variant.form for variant in VARIANTS.values()} == set(plain_forms.FORMS)


def test_a_pass_has_each_lead_once_a_size_and_its_processes_beside_each_other():
    jobs = list(leads.plan(["loss", "sums", "shapes", "cache", "beam"], ["smoke", "tiny"]))
    assert sorted(jobs) == sorted(
        [("beam", "smoke")]
        + [(name, size) for name in ("loss", "cache") for size in ("smoke", "tiny")]
    )
    # One before the other in turn, but what fills a cache comes first.
    assert [leads.sides("loss", number)[0] for number in range(3)] == ["trick", "plain", "trick"]
    assert leads.sides("cache", 0) == leads.sides("cache", 1) == ["plain", "trick"]
    assert LEADS["cache"].plain == "empty cache"


def test_what_needs_an_allocator_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setattr(leads, "allocators", lambda: {"glibc": {}, "kept": {}})
    names = ["kept", "jemalloc", "jemalloc_kept", "loss"]
    assert list(leads.plan(names, ["smoke"])) == [("kept", "smoke"), ("loss", "smoke")]


def report(rate, memory=100, first=1.0):
    return {
        "tokens_per_second": rate, "sentences_per_second": rate, "peak_bytes_steps": memory,
        "peak_bytes": 7, "first_step_seconds": first,
    }  # fmt: skip


def passes(*pairs):
    return [{"trick": trick, "plain": plain} for trick, plain in pairs]


RECORD = {
    "settings": {"sizes": ["tiny", "base"], "allocator": "kept"},
    "results": {
        "dropout": {
            "tiny": passes(
                (report(6.0), report(4.0)), (report(2.0), report(1.0)), (report(9.0), report(3.0))
            ),
            "base": passes((report(1.0, 50), report(2.0, 200))),
        },
        "jemalloc": {"tiny": passes((report(1.0), report(1.0)))},
        "top_k": {"tiny": passes((report(3.0), report(2.0)))},
        "cache": {"tiny": passes((report(1.0, 2, 5.0), report(1.0, 1, 20.0)))},
    },
    "counted": {"packed rows": [0.9, 0.9], "rows of a pair": [0.6, 0.6]},
}


def test_the_table_of_a_record():
    lines = table_of(RECORD).splitlines()
    assert lines[0] == "| trick | in use | tiny | base | memory |"
    rows = {
        name: [cell.strip() for cell in line.strip("|").split("|")][2:]
        for name, line in zip(LEADS, lines[2:], strict=True)
    }
    assert rows["dropout"] == ["2.00 (1.50 to 3.00)", "0.50 (0.50 to 0.50)", "0.25 (0.25 to 0.25)"]
    # Seconds: four times fewer.
    assert rows["cache"] == ["4.00 (4.00 to 4.00)", NOT_MEASURED, NOT_MEASURED]
    assert rows["top_k"] == ["1.50 (1.50 to 1.50)", NOT_MEASURED, "1.00 (1.00 to 1.00)"]
    assert rows["shapes"] == ["1.50 (1.50 to 1.50)", NOT_MEASURED, NOT_MEASURED]
    assert rows["jemalloc"] == ["1.00 (1.00 to 1.00)", NOT_MEASURED, "1.00 (1.00 to 1.00)"]
    assert rows["imports"] == rows["loss"] == [NOT_MEASURED] * 3
    assert rows["compacting"] == [LEADS["compacting"].why, "", ""]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """Returns the function that runs the script in an empty folder, where no process is run."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def run_alone(python, module, arguments, **given):
        asked.append((arguments, given))
        return report(float(len(asked)))

    monkeypatch.setattr(leads, "run_alone", run_alone)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["leads", "--out=leads.json", *arguments])
        return leads.main(), asked

    return run


def test_a_record_is_measured_and_its_table_put_on_a_page(script, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- tables: measured -->\n<!-- tables: end -->\nb\n", encoding="utf-8")
    code, asked = script(
        "--only=dropout,devices,cache,dropout", "--sizes=smoke,smoke", "--passes=2", "--seconds=3"
    )
    assert code == 0
    record = json.loads((tmp_path / "leads.json").read_text(encoding="utf-8"))
    rates = {
        name: [[each[side]["tokens_per_second"] for side in ("trick", "plain")] for each in found]
        for name, sizes in record["results"].items()
        for found in sizes.values()
    }
    # The fake processes are numbered; the second pass is backwards.
    assert rates == {
        "dropout": [[1, 2], [12, 11]],
        "devices": [[3, 4], [10, 9]],
        "cache": [[6, 5], [8, 7]],
    }
    caches = [given["environment"]["XDG_CACHE_HOME"] for _, given in asked]
    assert caches[4] == caches[5] != caches[6] == caches[7]
    assert len({*caches[:4], *caches[8:]}) == 1
    forms = [arguments[0] for arguments, _ in asked]
    assert forms[:4] == ["as_it_is", "threefry_dropout", "two_devices", "as_it_is"]
    arguments, _ = asked[0]
    assert arguments[1:3] == ["train", "--size=smoke"]
    assert arguments[-1] == "--seconds=3.0"
    assert asked[4][0][-1] == "--seconds=0.1"
    assert ["XLA_FLAGS" in given["environment"] for _, given in asked[2:4]] == [True, False]
    assert script("--report", f"--page={page}")[0] == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("a\n")
    assert text.endswith("<!-- tables: end -->\nb\n")
    assert table_of(record) in text
    assert table_of(record) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (
            "--only=dropout,speed",
            "leads: error: --only has 'speed'; choose from products, gradient,",
        ),
        ("--sizes=huge", "leads: error: --sizes has 'huge'; choose from tiny, base, smoke"),
        ("--out=nowhere/x.json", "leads: error: --out=nowhere/x.json is in no folder; make it"),
    ],
)
def test_a_wrong_argument_is_one_sentence(argument, said, script, capsys):
    with pytest.raises(SystemExit) as raised:
        script(argument)
    assert raised.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)


def test_without_a_record_there_is_no_table(script, capsys):
    assert script("--report")[0] == 2
    assert capsys.readouterr().err.startswith("leads: leads.json is no file: nothing was measured")


def test_a_record_of_another_form_is_refused(script, tmp_path, capsys):
    record = {**RECORD, "results": {"step": {"tiny": [report(1.0)]}, "kept": {}}}
    (tmp_path / "leads.json").write_text(json.dumps(record), encoding="utf-8")
    assert script("--report")[0] == 2
    assert "leads.json measures step, which are no leads. Measure it anew." in (
        capsys.readouterr().err
    )
