"""experiments/multi30k_tiny.py: means over seeds, and nothing that was not scored as published."""

import functools
import json
import math

import pytest

from experiments import multi30k_tiny


@pytest.fixture
def run(run_script):
    return functools.partial(run_script, multi30k_tiny)


@pytest.fixture
def scored(tmp_path):
    """Makes the workdir of a run that was scored."""

    def make(seed, bleu, *, split="test", alpha=1.0, dropout_rate=0.3, **changes):
        workdir = tmp_path / f"{seed}-{alpha}"
        (workdir / "evaluation").mkdir(parents=True)
        config = {"train": {"seed": seed, "dropout_rate": dropout_rate}, "decode": {"alpha": 1.0}}
        (workdir / "config.json").write_text(json.dumps(config))
        record = {
            "sentences": {"test": 1000, "valid": 1014}[split],
            "bleu": bleu - 3,
            "bleu_signature": "nrefs:1",
            "parameters": 2_569_600,
            "num_beams": 5,
            "alpha": alpha,
            "length_penalty": "a:b",
            "extra_length": 50,
            "checkpoints": list(range(10)),
            "published_protocol": {"protocol": "multi_bleu_lc", "bleu": bleu},
            **changes,
        }
        (workdir / "evaluation" / f"{split}.json").write_text(json.dumps(record))
        return workdir

    return make


def cells(out):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]


def test_means_stand_with_two_standard_errors(run, scored, tmp_path):
    tiny = ",".join(str(scored(seed, bleu)) for seed, bleu in ((0, 40.6), (1, 41.2), (2, 41.1)))
    better = ",".join(str(scored(seed, bleu, alpha=1.2)) for seed, bleu in ((0, 41.9), (1, 42.0)))
    worse = ",".join(str(scored(seed, bleu, alpha=0.2)) for seed, bleu in ((0, 39.9), (1, 40.0)))
    file = tmp_path / "tiny.md"
    code, out, _ = run(
        f"tiny={tiny}", f"better={better}", f"worse={worse}",
        f"one={tiny.split(',')[0]}", f"--output={file}",
    )  # fmt: skip
    assert code == 0
    assert file.read_text() == out
    found = {line[0]: line[1:] for line in cells(out) if line}
    # Deviations from 40.967: -0.367, 0.233, 0.133.
    error = 2 * math.sqrt((0.3667**2 + 0.2333**2 + 0.1333**2) / 2) / math.sqrt(3)
    assert found["tiny"] == [
        *("2,569,600", "3", f"40.97 ± {error:.2f}", "40.60, 41.20, 41.10"),
        *(f"37.97 ± {error:.2f}", "matched"),
    ]
    assert found["better"][2:] == ["41.95 ± 0.10", "41.90, 42.00", "38.95 ± 0.10", "beaten"]
    assert found["worse"][-1] == "missed"
    assert found["one"][1:] == ["1", "40.60", "40.60", "37.60", "one seed: not told"]
    assert (
        "Searches: tiny beam 5, alpha 1, average of 10; better beam 5, alpha 1.2, average of 10; "
    ) in out


def test_a_training_older_than_a_setting_stands_beside_a_newer_one(run, scored):
    old, new = scored(0, 41.0), scored(1, 41.2)
    path = new / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"optimizer": {"weight_decay": 0.0}}))
    assert run(f"tiny={old},{new}")[0] == 0
    path.write_text(json.dumps(json.loads(path.read_text()) | {"optimizer": {"weight_decay": 0.1}}))
    code, _, errors = run(f"tiny={old},{new}")
    assert (code, "in more than its seed" in errors) == (2, True)


def test_of_validation_nothing_is_set_beside_the_published(run, scored):
    code, out, _ = run(f"tiny={scored(0, 41.0, split='valid')}", "--split=valid")
    assert code == 0
    assert "41.02" not in out
    assert len(cells(out)[0]) == len(cells(out)[2]) == 6


def test_mistakes_are_one_sentence(run, scored, tmp_path):
    good, again = scored(0, 41.0), scored(1, 41.0, dropout_rate=0.1)
    longer, fewer = scored(4, 41.0, alpha=2.0), scored(5, 41.0, checkpoints=[1])
    other = scored(2, 41.0, published_protocol={"protocol": "paper", "bleu": 1.0})
    short = scored(3, 41.0, sentences=999)
    silent, seedless = scored(6, 41.0), scored(7, 41.0)
    path = silent / "evaluation" / "test.json"
    record = json.loads(path.read_text())
    del record["length_penalty"]
    path.write_text(json.dumps(record))
    (seedless / "config.json").write_text("{}")
    plain = tmp_path / "plain"
    plain.mkdir()
    unscored = tmp_path / "unscored"
    unscored.mkdir()
    (unscored / "config.json").write_text((good / "config.json").read_text())
    for argv, message in (
        (["tiny"], "is not RECIPE=WORKDIR,WORKDIR"),
        (["tiny="], "is not RECIPE=WORKDIR,WORKDIR"),
        ([f"tiny={good}", f"tiny={good}"], "A recipe is named twice"),
        ([f"tiny={good},{good}"], "have the seeds [0, 0]. Give each training once."),
        ([f"tiny={good},{again}"], "in more than its seed"),
        ([f"tiny={good},{longer}"], f"{longer} was scored with alpha 2.0, and {good} with 1.0."),
        ([f"tiny={good},{fewer}"], "was scored with checkpoints 1, and"),
        ([f"tiny={silent}"], f"{path} does not say length_penalty. Run `jaxformer evaluate"),
        ([f"tiny={seedless}"], "config.json names no train.seed. Give a training's."),
        ([f"tiny={plain}"], "is not the workdir of a run"),
        ([f"tiny={unscored}"], "--split=test --protocol=multi_bleu_lc`"),
        ([f"tiny={other}"], "has no BLEU by the protocol multi_bleu_lc"),
        ([f"tiny={short}"], "is of 999 sentences, and Multi30k's test split has 1,000"),
    ):
        code, out, errors = run(*argv)
        assert code == 2, argv
        assert message in errors
        assert "Traceback" not in errors
        assert out == ""
