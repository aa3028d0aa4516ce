"""`jaxformer evaluate`: translates a split and scores it."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jaxformer.cli.hosts import add_host_options, joined
from jaxformer.cli.mistakes import file_mistakes, mistakes
from jaxformer.cli.trained import make_options, read
from jaxformer.files import as_path

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
    options.add_argument(
        "--protocol",
        help="also BLEU as published results count it: multi_bleu_lc (tokens, small letters) or "
        "paper (tokens, German compounds split)",
    )
    add_host_options(options)
    chosen, config = read(options, argv)
    with joined(chosen):
        _evaluate(config, as_path(chosen.workdir), chosen.split, chosen.protocol)
    return 0


def _evaluate(config: dict, workdir: Path, wanted: str | None, protocol: str | None) -> None:
    # Imported late, so that a mistake in the arguments is answered at once.
    import jax

    from jaxformer.cli import build
    from jaxformer.cli.translator import all_devices, open_trained, open_translate
    from jaxformer.data.encoded import encode_pairs
    from jaxformer.data.pipeline import check_evaluable, eval_batches
    from jaxformer.io.hosts import channel
    from jaxformer.io.protocol import check_protocol, protocol_score
    from jaxformer.io.score import score
    from jaxformer.loss import tokens_at_a_time
    from jaxformer.run.comparison import compare, compare_programs
    from jaxformer.run.evaluation import likelihood, write_evaluation
    from jaxformer.run.preparation import fingerprint
    from jaxformer.run.progress import duration
    from jaxformer.run.restoring import count_parameters
    from jaxformer.sharding import make_layout, num_shares, place_batch, platform_of
    from jaxformer.train import make_eval_step

    start = time.monotonic()
    decode, language = config["decode"], config["data"]["target"]
    with mistakes():
        compare_programs(workdir, config, channel())
        if protocol:
            check_protocol(protocol, language)
        split = wanted or _default_split(config)
        # Otherwise a wrong name would be found when the likelihood has been computed.
        build.make_length_penalty(config)
        pairs = list(build.make_corpus(config, [split]).pairs(split))
    trained, mesh = open_trained(config, workdir), all_devices()

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty() and channel().process_id == 0:
            end = "\n" if done == total else ""
            print(f"\r{done:,} of {total:,} sentences", end=end, file=sys.stderr, flush=True)

    with mistakes():
        encoded = encode_pairs(pairs, trained.tokenizer)
        compare({"text": fingerprint(encoded), "checkpoints": trained.steps}, channel())
        check_evaluable(encoded, split, config["data"]["max_length"])
        batches = eval_batches(encoded, config["data"]["target_tokens"], num_shares(mesh))
        model = trained.model.clone(layout=make_layout(mesh))
        found = likelihood(
            jax.jit(make_eval_step(model, tokens_at_a_time(platform_of(mesh)))),
            trained.params,
            (place_batch(batch, mesh) for batch in batches),
        )
    translate = open_translate(config, trained, report)
    before = time.monotonic()
    translations = translate(trained.params, [source for source, _ in pairs])
    translating = time.monotonic() - before
    if channel().process_id != 0:
        return
    references = [target for _, target in pairs]
    with mistakes():
        scores = score(translations, references)
        published = (
            protocol_score(translations, references, protocol, language) if protocol else None
        )
    details = {
        "checkpoints": trained.steps,
        "parameters": count_parameters(trained.model),
        "num_beams": decode["num_beams"],
        "alpha": decode["alpha"],
        "length_penalty": decode["length_penalty"],
        "extra_length": decode["extra_length"],
        "seconds": round(time.monotonic() - start, 3),
        "seconds_translating": round(translating, 3),
        "device": jax.local_devices()[0].device_kind,
        "devices": mesh.size,
    }
    if published:
        details["published_protocol"] = dataclasses.asdict(published)
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
    if published:
        print(f"BLEU        {published.bleu:.2f}  {published.protocol}: {published.description}")
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
