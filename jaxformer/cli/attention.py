"""`jaxformer attention`: what every head of a trained model looks at in one sentence."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxformer.cli.mistakes import Mistake, file_mistakes, mistakes
from jaxformer.cli.options import whole_number
from jaxformer.cli.trained import make_options, read
from jaxformer.cli.workdir import local_output
from jaxformer.files import as_path

_EPILOG = """\
The folder gets attention.html, a page of one file in which layer, heads and words are chosen, and
for encoder, decoder and cross attention two pictures of a layer: KIND_layerN_links.png, words with
lines between them as in the paper's Figures 4 and 5, and KIND_layerN_heads.png, heat maps.
Settings of decoding can be overridden: --config.decode.average=1, and the like.
"""

_ALL = "all"

# Of each kind: what it is called, and its columns and rows.
_TITLES = {
    "encoder": ("Encoder self-attention", ("source", "source")),
    "decoder": ("Decoder self-attention", ("target so far", "target")),
    "cross": ("Cross-attention", ("source", "target")),
}


def run(argv: Sequence[str]) -> int:
    """Draws; returns the exit code."""
    about = "Draws the attention of a trained model over a sentence: every layer, every head."
    options = make_options("attention", about, _EPILOG)
    options.add_argument("sentence", nargs="*", help="to translate; spaces need quotation marks")
    options.add_argument("--target", help="its translation (default: the model's own)")
    options.add_argument(
        "--output", metavar="FOLDER", help="for page and pictures (default: WORKDIR/attention)"
    )
    options.add_argument(
        "--layer", type=_layer, help=f"of the pictures, from 1, or {_ALL} (default: the last)"
    )
    options.add_argument(
        "--word", help="also draw all heads of this word, as in Figure 3: KIND_layerN_word.png"
    )
    chosen, config = read(options, argv)
    # Unquoted words are a sentence too.
    source = _line("sentence", " ".join(chosen.sentence))
    target = None if chosen.target is None else _line("target", chosen.target)
    _draw(config, chosen, source, target)
    return 0


def _layer(text: str) -> int | str:
    """Reads a number of 1 or more, or "all"."""
    try:
        return _ALL if text == _ALL else whole_number(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor '{_ALL}'") from error


def _line(name: str, text: str) -> str:
    """Returns the text as one line, which holds something."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Mistake(f"The {name} is not UTF-8. Convert it to UTF-8.") from error
    if not text.strip():
        fix = (
            'Give one: jaxformer attention --workdir=runs/name "A sentence."'
            if name == "sentence"
            else "Give its words, or leave --target out for the model's own translation."
        )
        raise Mistake(f"The {name} is empty. {fix}")
    return " ".join(text.splitlines())


def _layers(config: dict, wanted: int | str | None) -> dict[str, list[int]]:
    """Returns the layers to draw of each kind of attention that has them, counted from 1."""
    model = config["model"]
    last = {
        "encoder": model["num_encoder_layers"],
        "decoder": model["num_decoder_layers"],
        "cross": model["num_decoder_layers"],
    }
    if wanted == _ALL:
        return {kind: list(range(1, number + 1)) for kind, number in last.items()}
    numbers = {kind: number if wanted is None else int(wanted) for kind, number in last.items()}
    layers = {kind: [number] for kind, number in numbers.items() if number <= last[kind]}
    if not layers:
        raise Mistake(
            f"--layer={wanted}: the model has {last['encoder']} encoder and {last['decoder']} "
            "decoder layers. Give one of them."
        )
    return layers


def _draw(config: dict, chosen: argparse.Namespace, source: str, target: str | None) -> None:
    layers = _layers(config, chosen.layer)
    folder = local_output(chosen.output, as_path(chosen.workdir) / "attention")
    with mistakes():
        # Before what takes long.
        folder.mkdir(parents=True, exist_ok=True)
    # Imported late, so that a mistake in the arguments is answered at once.
    from jaxformer.cli import build
    from jaxformer.cli.translator import open_trained
    from jaxformer.io.attention_page import write_attention_page
    from jaxformer.run.attention import sentence_attention

    decode = config["decode"]
    trained = open_trained(config, chosen.workdir)
    with mistakes():
        found = sentence_attention(
            trained.model,
            trained.params,
            trained.tokenizer,
            source,
            target,
            num_beams=decode["num_beams"],
            alpha=decode["alpha"],
            extra_length=decode["extra_length"],
            length_penalty=build.make_length_penalty(config),
            longest=config["data"]["max_length"],
        )
        places = _places(chosen.word, found.maps)
    with file_mistakes():
        page = folder / "attention.html"
        write_attention_page(found.maps, page, source=found.source, target=found.target)
        paths = [page]
        for kind, numbers in layers.items():
            for layer in numbers:
                paths += _draw_layer(folder, kind, layer, found.maps[kind], places.get(kind))
    print(f"source   {found.source}")
    print(f"target   {found.target}" + (" (the model's own)" if target is None else ""))
    print(f"written  {folder}/: {', '.join(path.name for path in paths)}")


def _draw_layer(
    folder: Path, kind: str, layer: int, attention: Any, place: int | None
) -> list[Path]:
    """Draws the pictures of one layer; returns their paths."""
    from jaxformer.io.plot import plot_attention
    from jaxformer.io.plot_links import plot_links

    name, sides = _TITLES[kind]
    title = f"{name}, layer {layer}"
    weights_HTS = attention.weights_LHTS[layer - 1]
    queries, keys = attention.queries, attention.keys
    links, heads, word = (
        folder / f"{kind}_layer{layer}_{what}.png" for what in ("links", "heads", "word")
    )
    plot_links(weights_HTS, queries, keys, links, title=title)
    plot_attention(weights_HTS, keys, queries, heads, title=title, sides=sides)
    if place is None:
        return [links, heads]
    plot_links(weights_HTS, queries, keys, word, title=title, query=place)
    return [links, heads, word]


def _places(word: str | None, maps: dict) -> dict[str, int]:
    """Returns where a word begins among the queries of each kind that has it."""
    from jaxformer.io.attention_map import words

    if word is None:
        return {}
    starts = {kind: words(attention.queries) for kind, attention in maps.items()}
    places = {kind: found[word] for kind, found in starts.items() if word in found}
    if not places:
        known = sorted({name for found in starts.values() for name in found})
        raise Mistake(f"--word={word!r} is not in the sentences. Give one of {', '.join(known)}.")
    return places
