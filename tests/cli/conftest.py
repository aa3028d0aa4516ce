"""A tiny corpus of words to be reversed, and a model trained on it through the command line."""

import io
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaxformer.cli.main import main

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = ["an", "bee", "can", "do", "eat", "far", "go", "he", "in", "jam", "kin", "low"]
SPLITS = {"train": 240, "valid": 14, "test": 15}

TINY = [
    "--config.model.d_model=16",
    "--config.model.d_ff=24",
    "--config.model.num_heads=2",
    "--config.model.num_encoder_layers=1",
    "--config.model.num_decoder_layers=1",
    "--config.model.vocab_multiple=7",
    "--config.model.residual=jaxformer.model.residual:pre_norm",
    "--config.data.vocab_size=291",
    "--config.data.max_length=80",
    "--config.data.source_tokens=320",
    "--config.data.target_tokens=320",
    "--config.optimizer.warmup_steps=20",
]

STEPS = 11
# Every interval ends elsewhere, and the checkpoints stand between lines of metrics.
CADENCE = [
    "--config.train.log_every=4",
    "--config.train.eval_every=6",
    "--config.train.checkpoint_every=3",
    "--config.train.accumulate=2",
    "--config.train.dropout_rate=0.3",
    # Several epochs.
    "--config.data.source_tokens=900",
    "--config.data.target_tokens=900",
]


@dataclass
class Result:
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Returns a folder of line-aligned files, {train,valid,test}.{source,target}."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = random.Random(0)
    for split, count in SPLITS.items():
        # A few long ones to train on, so that there are two shapes.
        lengths = [
            24 if split == "train" and number % 40 == 7 else generator.randint(1, 4)
            for number in range(count)
        ]
        rows = [[generator.choice(WORDS) for _ in range(length)] for length in lengths]
        for side, order in (("source", 1), ("target", -1)):
            text = "".join(" ".join(row[::order]) + "\n" for row in rows)
            (folder / f"{split}.{side}").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def files(corpus):
    """Returns the overrides that name the corpus."""
    return [
        f"--config.data.{split}_{side}={corpus / f'{split}.{side}'}"
        for split in SPLITS
        for side in ("source", "target")
    ]


@pytest.fixture(scope="session")
def tiny(files):
    """Returns the arguments of a training that takes seconds, but for its workdir."""
    return ["train", f"--config={ROOT / 'configs' / 'plain_text.py'}", *files, *TINY]


def run_command(*argv, stdin=b""):
    """Runs the command line within this process; a fault of the program is raised."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = main([str(argument) for argument in argv])
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Result(code, *texts)


@pytest.fixture(scope="session")
def jaxformer():
    """Returns the function that runs a command line."""
    return run_command


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """Returns the workdir of a training, which tests only read, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    result = run_command(
        *tiny,
        f"--workdir={workdir}",
        "--config.train.num_steps=180",
        "--config.train.log_every=30",
        "--config.train.eval_every=90",
        "--config.train.checkpoint_every=60",
        "--config.decode.average=2",
    )
    assert result.code == 0, result.err
    return workdir, result


@pytest.fixture(scope="session")
def train(tiny, jaxformer):
    """Returns the function that trains in a workdir up to a step."""

    def run(workdir, num_steps=STEPS, *more):
        return jaxformer(
            *tiny, *CADENCE, f"--workdir={workdir}", f"--config.train.num_steps={num_steps}", *more
        )

    return run


@pytest.fixture(scope="session")
def unbroken(train, tmp_path_factory):
    """Returns the workdir of a training without a stop."""
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    assert train(workdir).code == 0
    return workdir
