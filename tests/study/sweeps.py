"""Sweeps' folders made by hand: a manifest, and what finished and unfinished members leave."""

import copy
import json
import math
import random
import zlib
from pathlib import Path

WORDS = ["a", "dog", "runs", "over", "the", "grass", "while", "two", "men", "look", "at", "him"]
SENTENCES = 40
STEPS = 3000
CONFIG = {
    "model": {
        "d_model": 128,
        "d_ff": 256,
        "num_heads": 4,
        "d_k": 0,
        "d_v": 0,
        "num_encoder_layers": 4,
        "num_decoder_layers": 4,
        "positions": "jaxformer.model.positions:Sinusoidal",
    },
    "optimizer": {"learning_rate": 1.0, "warmup_steps": 500},
    "data": {"corpus": "multi30k"},
    "train": {
        "num_steps": STEPS,
        "dropout_rate": 0.3,
        "label_smoothing": 0.1,
        "log_every": 50,
        "seed": 0,
    },
}


def make_references():
    """Returns the sentences that all members translate."""
    chance = random.Random(0)
    return [" ".join(chance.choices(WORDS, k=chance.randint(5, 15))) for _ in range(SENTENCES)]


def make_translations(quality, seed):
    """Returns the references with each word kept at a chance of `quality`."""
    chance = random.Random(seed)
    return [
        " ".join(
            word if chance.random() < quality else chance.choice(WORDS) for word in line.split()
        )
        for line in make_references()
    ]


def make_config(overrides):
    """Returns the settings with dotted keys overridden."""
    config = copy.deepcopy(CONFIG)
    for key, value in overrides.items():
        group, name = key.split(".")
        config[group][name] = value
    return config


def make_member(group, row, seed, overrides=None, paper=None):
    """Returns a member's entry of a manifest."""
    config = make_config({**(overrides or {}), "train.seed": seed})
    place = f"{group}/{row}/seed={seed}"
    return {
        "id": place,
        "group": group,
        "row": row,
        "seed": seed,
        "overrides": overrides or {},
        "paper": paper,
        "config": config,
        "argv": ["jaxformer", "train"],
        "evaluate": ["jaxformer", "evaluate"],
        "workdir": place.replace("\n", " "),
    }


def write_manifest(folder, members, scale="laptop"):
    """Writes folder/manifest.json."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"version": 1, "scale": scale, "split": "valid", "members": members}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def write_metrics(folder, member, last, perplexity):
    """Writes config.json and metrics.jsonl of a training that has come to the step `last`."""
    workdir = Path(folder) / member["workdir"]
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps(member["config"]), encoding="utf-8")
    lines = []
    for step in range(50, last + 1, 50):
        line = {"step": step, "loss": 2.0 + 7.0 * math.exp(-step / 300)}
        if step % 250 == 0:
            line["valid_perplexity"] = perplexity * (1 + 60 * math.exp(-step / 350))
        lines.append(json.dumps(line) + "\n")
    (workdir / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


def write_scores(folder, member, **scores):
    """Writes the evaluation of a member, and its translations if there are any."""
    workdir = Path(folder) / member["workdir"]
    translations = scores.pop("translations", None)
    record = {
        "split": "valid",
        "sentences": SENTENCES,
        "bleu": 30.0,
        "bleu_signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
        "perplexity": 6.0,
        "checkpoints": [member["config"]["train"]["num_steps"], 2800],
        "num_beams": 4,
        "alpha": 0.6,
        "length_penalty": "jaxformer.decode.penalty:length_normalisation",
        "parameters": 2_570_000,
        **scores,
    }
    for name in ("evaluation", "translations"):
        (workdir / name).mkdir(parents=True, exist_ok=True)
    (workdir / "evaluation" / "valid.json").write_text(json.dumps(record), encoding="utf-8")
    if translations is not None:
        text = "".join(f"{line}\n" for line in translations)
        (workdir / "translations" / "valid.txt").write_text(text, encoding="utf-8")


def write_finished(folder, member, quality=0.8, **scores):
    """Writes a finished member whose translations are that good, with the BLEU that they have."""
    from sacrebleu.metrics import BLEU

    place = zlib.crc32(member["id"].encode())
    translations = make_translations(quality, place)
    bleu = BLEU().corpus_score(translations, [make_references()]).score
    perplexity = scores.setdefault("perplexity", round(11 - 6 * quality + place % 100 / 500, 3))
    write_metrics(folder, member, member["config"]["train"]["num_steps"], float(perplexity))
    write_scores(folder, member, **{"bleu": bleu, "translations": translations, **scores})


PAPER_BASE = {"perplexity": 4.92, "bleu": 25.8, "parameters": 65e6}
