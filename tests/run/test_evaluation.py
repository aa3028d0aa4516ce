"""Perplexity over batches, and the files that an evaluation leaves."""

import json
import math

import numpy as np
import pytest

from jaxformer.io.score import score
from jaxformer.loss import LossSums
from jaxformer.run.evaluation import Likelihood, likelihood, write_evaluation


def test_means_are_over_tokens_and_not_over_batches():
    sums = iter([LossSums(0.0, 6.0, 2.0, 3.0), LossSums(0.0, 1.0, 1.0, 1.0)])
    found = likelihood(lambda params, batch: next(sums), None, [{}, {}])
    assert found == Likelihood(nll=7.0 / 4, accuracy=3.0 / 4, tokens=4)
    assert found.perplexity == pytest.approx(math.exp(1.75))
    assert Likelihood(nll=1e6, accuracy=0.0, tokens=1).perplexity == math.inf
    assert math.isnan(Likelihood(nll=math.nan, accuracy=0.0, tokens=1).perplexity)


def test_no_batches():
    assert likelihood(None, None, []) == Likelihood(nll=0.0, accuracy=0.0, tokens=0)


def test_an_evaluation_is_written_and_written_again(tmp_path):
    hypotheses, references = ["a cat\u2028sat", ""], ["a cat sat", "on a mat"]
    for beams in (4, 5):
        text_path, record_path = write_evaluation(
            tmp_path,
            "test",
            translations=hypotheses,
            score=score(hypotheses, references),
            likelihood=Likelihood(nll=2.0, accuracy=0.5, tokens=7),
            details={"num_beams": beams},
        )
    assert text_path.read_bytes() == "a cat\u2028sat\n\n".encode()
    record = json.loads(record_path.read_text(encoding="utf-8"))
    assert (record["split"], record["num_beams"], record["sentences"]) == ("test", 5, 2)
    assert record["perplexity"] == pytest.approx(math.exp(2.0))
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"test.txt", "test.json"}


def refuse(name):
    raise AssertionError(f"{name} is no strict JSON")


@pytest.mark.parametrize(("nll", "texts"), [(math.nan, ("nan", "nan")), (1e6, (1e6, "inf"))])
def test_a_record_is_strict_json(tmp_path, nll, texts):
    _, path = write_evaluation(
        tmp_path,
        "test",
        translations=["x"],
        score=score(["x"], ["x"]),
        likelihood=Likelihood(nll=nll, accuracy=0.5, tokens=7),
        details={"alpha": np.float32(0.6)},
    )
    record = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert (record["nll"], record["perplexity"]) == texts
    assert record["alpha"] == 0.6
