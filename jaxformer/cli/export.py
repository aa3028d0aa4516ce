"""`jaxformer export`: a trained model as files that other programs read."""

import argparse
from collections.abc import Sequence
from typing import Any

from jaxformer.cli.mistakes import Mistake, mistakes
from jaxformer.cli.trained import make_options, read
from jaxformer.cli.workdir import local_output
from jaxformer.files import as_path, new_folder

FORMATS = ("safetensors", "ctranslate2")
_EPILOG = """\
safetensors: the parameters by name, the settings and the vocabulary.
ctranslate2: a model for CTranslate2's Translator, and the vocabulary.
Parameters are averaged as for translation: --config.decode.average=1 takes the newest only.
"""


def run(argv: Sequence[str]) -> int:
    """Exports; returns the exit code."""
    about = "Writes a trained model for other programs."
    options = make_options("export", about, _EPILOG, decodes=False)
    options.add_argument("--format", help=" or ".join(FORMATS))
    options.add_argument(
        "--output", metavar="FOLDER", help="new or empty (default: WORKDIR/export/FORMAT)"
    )
    chosen, config = read(options, argv)
    if chosen.format not in FORMATS:
        got = f"--format={chosen.format} is unknown." if chosen.format else "A format is needed."
        raise Mistake(f"{got} Give {' or '.join(f'--format={name}' for name in FORMATS)}.")
    _export(config, chosen)
    return 0


def _export(config: dict[str, Any], chosen: argparse.Namespace) -> None:
    # Imported late, so that a mistake in the arguments is answered at once.
    from jaxformer.cli.translator import open_trained
    from jaxformer.io import export_ctranslate2, export_safetensors

    workdir = as_path(chosen.workdir)
    output = local_output(chosen.output, workdir / "export" / chosen.format)
    with mistakes(), new_folder(output) as folder:
        trained = open_trained(config, workdir)
        trained.tokenizer.save(folder)
        if chosen.format == "safetensors":
            (folder / "config.json").write_bytes((workdir / "config.json").read_bytes())
            export_safetensors.save(
                trained.params,
                folder / "model.safetensors",
                {"format": "jaxformer", "checkpoints": ",".join(map(str, trained.steps))},
            )
        else:
            export_ctranslate2.save(
                trained.model,
                trained.params,
                trained.tokenizer.pieces(range(trained.tokenizer.vocab_size)),
                folder,
                longest=config["data"]["max_length"] + config["decode"]["extra_length"],
            )
        names = ", ".join(sorted(path.name for path in folder.iterdir()))
    steps = ", ".join(f"{step:,}" for step in trained.steps)
    print(f"checkpoints {steps}" + (", averaged" if len(trained.steps) > 1 else ""))
    print(f"written     {output}/: {names}")
