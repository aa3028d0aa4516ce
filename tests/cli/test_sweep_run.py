"""A sweep of two tiny trainings, for real: one goes on, one fails."""

import json
import re

import pytest

from jaxformer.io.record import Metrics


@pytest.fixture(scope="module")
def swept(tiny, jaxformer, tmp_path_factory):
    """Returns the folder of a sweep, its command, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    common = [
        *(argument for argument in tiny[2:] if "source_tokens" not in argument),
        "--config.train.num_steps=4",
        "--config.train.log_every=1",
        "--config.train.eval_every=0",
        "--config.train.checkpoint_every=2",
        "--config.decode.num_beams=1",
        "--config.decode.average=1",
        "--config.decode.extra_length=3",
    ]
    argv = [
        "sweep",
        tiny[1],
        *common,
        f"--workdir={folder}",
        "--sweep=data.source_tokens=320,9",
    ]
    write = Metrics.write

    def interrupt(self, row):
        if row["step"] == 3:
            raise KeyboardInterrupt
        write(self, row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Metrics, "write", interrupt)
        stopped = jaxformer(
            "train", tiny[1], *common,
            "--config.data.source_tokens=320",
            f"--workdir={folder}/plain_text/data.source_tokens=320/seed=0",
        )  # fmt: skip
        assert stopped.code == 130
    return folder, argv, jaxformer(*argv, "--jobs=2")


def test_a_sweep_trains_and_scores_its_members(swept):
    folder, _, result = swept
    assert result.code == 1
    member, _ = json.loads((folder / "manifest.json").read_bytes())["members"]
    workdir = folder / member["workdir"]
    assert json.loads((workdir / "config.json").read_bytes()) == member["config"]
    lines = (workdir / "metrics.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    scores = json.loads((workdir / "evaluation" / "valid.json").read_bytes())
    assert (scores["checkpoints"], scores["sentences"]) == ([4], 14)
    assert (workdir / "translations" / "valid.txt").read_bytes().count(b"\n") == 14
    assert f"{member['id']}: finished in " in result.out
    assert f"sacreBLEU {scores['bleu']:.2f}" in result.out


def test_a_member_that_was_stopped_goes_on(swept):
    folder, _, result = swept
    name = "plain_text/data.source_tokens=320/seed=0"
    assert f"{name}: going on after step 2 (data.source_tokens=320)\n" in result.out
    log = (folder / name / "log.txt").read_text(encoding="utf-8")
    assert "Going on from step 2 of 4." in log
    assert "sacreBLEU " in log
    assert len(json.loads((folder / name / "run.json").read_bytes())["starts"]) == 2


def test_a_member_that_fails_is_named_with_its_reason(swept):
    folder, _, result = swept
    name = "plain_text/data.source_tokens=9/seed=0"
    first, last = result.err.splitlines()
    assert first.startswith(
        f"{name} failed: train ended with code 2: jaxformer: A budget of 9 source tokens does not "
    )
    assert first.endswith(f"(see {folder / name}/log.txt)")
    assert last == "The same command tries again what has failed."


def test_members_that_may_are_trained_in_one_program(swept, jaxformer, tmp_path):
    _, argv, _ = swept
    kept = [each for each in argv if not each.startswith(("--workdir", "--sweep"))]
    # No training survives the last of these rates, and no other is to suffer from it.
    rates = "--sweep=optimizer.learning_rate=1,2,1e30"
    result = jaxformer(*kept, f"--workdir={tmp_path}", rates, "--population")
    assert result.code == 1
    assert "Programs of several members: 1, of 3 of 3 members.\n" in result.out
    assert "2 of 3 members are finished" in result.out
    name = "plain_text/optimizer.learning_rate=1e30/seed=0"
    assert re.fullmatch(
        rf"{re.escape(name)} failed: It diverged at step \d: loss or gradient was not finite.\n",
        result.err,
    )
    assert not (tmp_path / name / "log.txt").exists()
    likelihoods = []
    for rate in ("1", "2"):
        workdir = tmp_path / f"plain_text/optimizer.learning_rate={rate}/seed=0"
        assert f"{workdir}: Trained to step 4." in result.out
        assert "is trained to step 4 already" in (workdir / "log.txt").read_text(encoding="utf-8")
        scores = json.loads((workdir / "evaluation" / "valid.json").read_bytes())
        assert scores["checkpoints"] == [4]
        likelihoods.append(scores["nll"])
    assert likelihoods[0] != likelihoods[1]


def test_more_seeds_leave_what_is_finished_alone(swept, jaxformer):
    folder, argv, _ = swept
    result = jaxformer(*argv, "--seeds=2", "--print")
    assert (result.code, result.err) == (0, "")
    # The one that failed, and both with the new seed.
    assert result.out.count("\n") == 3
    assert len(json.loads((folder / "manifest.json").read_bytes())["members"]) == 4
