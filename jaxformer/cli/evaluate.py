"""`jaxformer evaluate`: translates a split and scores it."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jaxformer.cli.mistakes import file_mistakes, mistakes
from jaxformer.cli.trained import make_options, read

_EPILOG = """\
The translations are kept in WORKDIR/translations/SPLIT.txt, the scores in
WORKDIR/evaluation/SPLIT.json. How to decode and which text to read can be overridden:
--config.decode.average=1, --config.data.test_source=FILE, and the like.
"""


def run(argv: Sequence[str]) -> int:
    """Evaluates; returns the exit code."""
    options = make_options("evaluate", "Scores a trained model on a split of its corpus.", _EPILOG)
    options.add_argument(
        "--split", help="train, valid or test (default: test; valid if the corpus has no test)"
    )
    chosen, config = read(options, argv)
    _evaluate(config, Path(chosen.workdir), chosen.split)
    return 0


def _evaluate(config: dict, workdir: Path, wanted: str | None) -> None:
    # Imported late, so that a mistake in the arguments is answered at once.
    import jax

    from jaxformer.cli import build
    from jaxformer.data.encoded import encode_pairs
    from jaxformer.data.pipeline import eval_batches
    from jaxformer.io.score import score
    from jaxformer.run.allocator import keep_freed_memory
    from jaxformer.run.compilation import enable_cache
    from jaxformer.run.evaluation import likelihood, write_evaluation
    from jaxformer.run.progress import duration
    from jaxformer.run.restoring import restore
    from jaxformer.run.translation import make_translate
    from jaxformer.train import make_eval_step

    keep_freed_memory()
    enable_cache()
    start = time.monotonic()
    decode = config["decode"]
    with mistakes():
        split = wanted or _default_split(config)
        pairs = list(build.make_corpus(config, [split]).pairs(split))
        trained = restore(
            workdir, lambda vocab_size: build.make_model(config, vocab_size), decode["average"]
        )
        encoded = encode_pairs(pairs, trained.tokenizer)

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{done:,} of {total:,} sentences", end=end, file=sys.stderr, flush=True)

    with mistakes():
        found = likelihood(
            jax.jit(make_eval_step(trained.model)),
            trained.params,
            eval_batches(encoded, config["data"]["target_tokens"]),
        )
    translate = make_translate(
        trained.model,
        trained.tokenizer,
        num_beams=decode["num_beams"],
        alpha=decode["alpha"],
        extra_length=decode["extra_length"],
        longest=config["data"]["max_length"],
        batch_tokens=decode["batch_tokens"],
        report=report,
    )
    before = time.monotonic()
    translations = translate(trained.params, [source for source, _ in pairs])
    translating = time.monotonic() - before
    with mistakes():
        scores = score(translations, [target for _, target in pairs])
    details = {
        "checkpoints": trained.steps,
        "num_beams": decode["num_beams"],
        "alpha": decode["alpha"],
        "extra_length": decode["extra_length"],
        "seconds": round(time.monotonic() - start, 3),
        "seconds_translating": round(translating, 3),
        "device": jax.local_devices()[0].device_kind,
    }
    with file_mistakes():
        paths = write_evaluation(
            workdir,
            split,
            translations=translations,
            score=scores,
            likelihood=found,
            details=details,
        )
    steps = ", ".join(f"{step:,}" for step in trained.steps)
    print(f"sacreBLEU   {scores.bleu:.2f}  {scores.bleu_signature}")
    print(f"chrF        {scores.chrf:.2f}  {scores.chrf_signature}")
    print(f"perplexity  {found.perplexity:.3f} a word piece, {found.tokens:,} of them")
    why = "" if wanted or split == "test" else ", since the corpus has no test split"
    print(f"sentences   {scores.sentences:,} of {split}{why}")
    print(f"checkpoints {steps}" + (", averaged" if len(trained.steps) > 1 else ""))
    print(
        f"time        {duration(details['seconds'])}, of which {duration(translating)} to translate"
        f" ({len(pairs) / max(translating, 1e-9):,.1f} sentences a second, compiling included)"
    )
    print(f"written     {paths[0]}, {paths[1]}")


def _default_split(config: dict) -> str:
    from jaxformer.cli import build

    splits = build.named_splits(config) or build.make_corpus(config).splits
    return "valid" if "valid" in splits and "test" not in splits else "test"
