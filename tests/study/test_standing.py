"""How far a sweep is: finished members, their steps, and the time that is left."""

import json

import pytest

from jaxformer.study.manifest import Row, expand
from jaxformer.study.standing import Forecast, last_step, read_scores

CONFIG = {"train": {"num_steps": 100, "seed": 0}}


@pytest.fixture
def members():
    rows = [Row("g", label, {}, None, CONFIG, []) for label in ("base", "x", "y")]
    return expand(rows, [0], "w")


def write(folder, member, name, text):
    path = folder / member.workdir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_member_is_finished_when_its_last_checkpoint_is_scored(tmp_path, members):
    member = members[0]
    assert read_scores(tmp_path, member) is None
    unfinished = ("{", "3", "{}", '{"checkpoints": []}', '{"checkpoints": [100], "bleu": 3}')
    for text in (*unfinished, '{"checkpoints": [50], "bleu": 3, "perplexity": 5}'):
        write(tmp_path, member, "evaluation/valid.json", text)
        assert read_scores(tmp_path, member) is None
    scores = {"checkpoints": [100, 50], "bleu": 3, "perplexity": 5}
    write(tmp_path, member, "evaluation/valid.json", json.dumps(scores))
    assert read_scores(tmp_path, member) == scores


def test_a_member_with_a_protocol_is_scored_by_it(tmp_path):
    (member,) = expand([Row("g", "base", {}, None, CONFIG, [])], [0], "w", "paper")
    assert (member.protocol, member.evaluate[-1]) == ("paper", "--protocol=paper")
    scores = {"checkpoints": [100], "bleu": 3, "perplexity": 5}
    for published in ({}, {"published_protocol": {"protocol": "other", "bleu": 4}}):
        write(tmp_path, member, "evaluation/valid.json", json.dumps(scores | published))
        assert read_scores(tmp_path, member) is None
    scores["published_protocol"] = {"protocol": "paper", "bleu": 4}
    write(tmp_path, member, "evaluation/valid.json", json.dumps(scores))
    assert read_scores(tmp_path, member) == scores
    (plain,) = expand([Row("g", "base", {}, None, CONFIG, [])], [0], "w")
    assert plain.protocol == ""
    assert read_scores(tmp_path, plain) == scores


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("", 0),
        ('{"step": 50}\n', 50),
        ('{"step": 50}\n{"step": 75}\n', 75),
        ('{"step": 50}\n{"step": 7', 50),
        ("nonsense\nmore\n", 0),
        ('{"step": 1e999}\n[]\n', 0),
        ("[" * 5000, 0),
        ("".join(f'{{"step": {step}, "text": "{"x" * 90}"}}\n' for step in range(500)), 499),
    ],
)
def test_the_last_whole_line_of_metrics_counts(tmp_path, members, text, step):
    assert last_step(tmp_path, members[0]) == 0
    write(tmp_path, members[0], "metrics.jsonl", text)
    assert last_step(tmp_path, members[0]) == step


def test_the_time_left_follows_from_the_steps(tmp_path, members):
    now = [1000.0]
    base, x, y = members

    def reach(member, step):
        write(tmp_path, member, "metrics.jsonl", f'{{"step": {step}}}\n')

    # Of an earlier start.
    reach(x, 40)
    forecast = Forecast(members, tmp_path, clock=lambda: now[0])
    now[0] += 30
    forecast.advance(base)
    assert forecast.seconds_left() is None
    # 50 steps in 30 seconds, and 50 + 60 + 100 are left.
    reach(base, 50)
    forecast.advance(base)
    assert forecast.elapsed == 30
    assert forecast.seconds_left() == pytest.approx(210 * 30 / 50)
    now[0] += 30
    forecast.end(base, is_finished=True)
    assert forecast.seconds_left() == pytest.approx(160 * 60 / 100)
    # A failed one is not waited for.
    forecast.end(y, is_finished=False)
    assert forecast.seconds_left() == pytest.approx(60 * 60 / 100)
    # A member that goes back to its checkpoint has not done less.
    reach(x, 30)
    forecast.advance(x)
    assert forecast.seconds_left() == pytest.approx(60 * 60 / 100)
    forecast.end(x, is_finished=True)
    assert forecast.seconds_left() == 0
