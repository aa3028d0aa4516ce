"""The tricks of the step and of the decoder, what each is measured against, and their table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.benchmarks.summary import ratios
from experiments.shared.pages import table

NOT_MEASURED = "not measured"


class Variant(NamedTuple):
    """A measured process.

    Attributes:
      work: of `experiments.benchmarks.ours`; "decode" and "lengths" with the first size only.
      form: of `experiments.benchmarks.plain_forms`.
      arguments: besides size, batches and seconds.
      allocator: None for the last there is.
      environment: other variables.
      cache: of compiled programs: "" for that of all processes; another is the pass's own, empty
        for the pass's first process of that name.
    """

    work: str = "train"
    form: str = "as_it_is"
    arguments: tuple[str, ...] = ()
    allocator: str | None = None
    environment: Mapping[str, str] = {}
    cache: str = ""


_TWO = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
_SHORT = ("--seconds=0.1",)
VARIANTS = {
    "empty cache": Variant(arguments=_SHORT, cache="first"),
    "full cache": Variant(arguments=_SHORT, cache="first"),
    "step": Variant(),
    "bfloat16 products": Variant(arguments=("--product_dtype=bfloat16",)),
    "float32 products": Variant(arguments=("--product_dtype=float32",)),
    "threefry": Variant(form="threefry_dropout"),
    "whole logits": Variant(form="whole_logits"),
    "kept state": Variant(form="kept_state"),
    "glibc": Variant(allocator="glibc"),
    "kept": Variant(allocator="kept"),
    "jemalloc": Variant(allocator="jemalloc"),
    "jemalloc kept": Variant(allocator="jemalloc_kept"),
    "two devices": Variant(form="two_devices", environment=_TWO),
    "fused projections": Variant(form="fused_projections"),
    "scanned layers": Variant(form="scanned_layers"),
    "search": Variant("decode"),
    "rows of hypotheses": Variant("decode", "rows_of_hypotheses"),
    "memory of each": Variant("decode", "memory_of_each_hypothesis"),
    "copied hypotheses": Variant("decode", "copied_hypotheses"),
    "plain top-k": Variant("decode", "plain_top_k"),
    "sorted": Variant("lengths"),
    "order of input": Variant("lengths", "order_of_input"),
}

RATES = {
    "train": "tokens_per_second",
    **dict.fromkeys(("decode", "lengths"), "sentences_per_second"),
}
_MEMORY = {"train": "peak_bytes_steps", **dict.fromkeys(("decode", "lengths"), "peak_bytes")}
_FIRST_STEP = "first_step_seconds"


class Lead(NamedTuple):
    """A trick, and the two measurements whose ratio is what it is worth.

    Attributes:
      in_use: whether, or how, jaxformer does it.
      trick, plain: names of VARIANTS, or of what a record has counted; none where `why` says so.
      why: why there is no figure.
      figure: of the reports; None for the work's rate.
    """

    title: str
    in_use: str
    trick: str = ""
    plain: str = ""
    why: str = ""
    figure: str | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """Those of VARIANTS that are to be measured for it."""
        return tuple(name for name in (self.trick, self.plain) if name in VARIANTS)


LEADS = {
    "products": Lead(
        "products in bfloat16, their sums and all else in float32",
        "`model.product_dtype`",
        "bfloat16 products",
        "step",
    ),
    "gradient": Lead(
        "products in float32 with a gradient of our own",
        "`model.product_dtype`",
        "float32 products",
        "step",
    ),
    "dropout": Lead(
        "dropout masks from a hash of counters, not from threefry", "yes", "step", "threefry"
    ),
    "loss": Lead("loss and logits in chunks, not as a whole", "yes", "step", "whole logits"),
    "sums": Lead(
        "token-weighted sums",
        "yes",
        why="by construction, not measured: parts of a batch are added, and divided once",
    ),
    "donation": Lead("state written over the old one", "yes", "step", "kept state"),
    "kept": Lead("glibc told to keep freed memory", "without jemalloc", "kept", "glibc"),
    "jemalloc": Lead(
        "jemalloc, not glibc's allocator", "where it is preloaded", "jemalloc", "glibc"
    ),
    "jemalloc_kept": Lead(
        "jemalloc told to keep freed memory", "where it is preloaded", "jemalloc kept", "jemalloc"
    ),
    "devices": Lead("two CPU devices, not two threads", "no", "two devices", "step"),
    "projections": Lead(
        "queries, keys and values in one product", "no", "fused projections", "step"
    ),
    "layers": Lead(
        "layers one by one, not in a loop", "unless `model.scan_layers`", "step", "scanned layers"
    ),
    "shapes": Lead(
        "fewer, fuller shapes: tokens a slot", "yes", "packed rows", "rows of a pair"
    ),
    "beam": Lead(
        "cache laid out for the beam (the next two, together)", "yes", "search",
        "rows of hypotheses",
    ),
    "memory": Lead(
        "keys over the source once a sentence, not once a hypothesis", "yes", "search",
        "memory of each",
    ),
    "reordering": Lead(
        "hypotheses reordered by index, not by copy", "yes", "search", "copied hypotheses"
    ),
    "top_k": Lead("top-k in blocks, not of all", "yes", "search", "plain top-k"),
    "compacting": Lead(
        "finished sentences dropped from the batch",
        "no",
        why="not tried; on captions it could save at most 1.85 times, by halves 1.68 (below)",
    ),
    "sorting": Lead("input sorted by length", "yes", "sorted", "order of input"),
    "cache": Lead(
        "compiled programs kept: the first step", "yes", "full cache", "empty cache",
        figure=_FIRST_STEP,
    ),
    "imports": Lead(
        "imports on demand: `jaxformer --help` against importing jax", "yes", "help", "import jax"
    ),
}  # fmt: skip


def table_of(record: Mapping[str, Any]) -> str:
    """Returns what each trick is worth: a row for each lead.

    Args:
      record: `settings` with `sizes`, `results` (lead -> size -> of each pass the
        reports of "trick" and "plain") and `counted` (name -> figures of which more is better, one
        a pass).

    A figure is the trick's over the plain form's: the median of the passes, with the least and the
    most. Memory is of the last size that there is of it.
    """
    sizes = record["settings"]["sizes"]
    rows = []
    for name, lead in LEADS.items():
        cells = [lead.why, *[""] * len(sizes)] if lead.why else _cells(name, record)
        rows.append([lead.title, lead.in_use, *cells])
    return table(["trick", "in use", *sizes, "memory"], rows)


def _cells(name: str, record: Mapping[str, Any]) -> list[str]:
    lead = LEADS[name]
    sizes = record["settings"]["sizes"]
    if not lead.variants:
        counted = record["counted"]
        found = [counted.get(name, []) for name in (lead.trick, lead.plain)]
        return [_ratio(*found), *[NOT_MEASURED] * len(sizes)]
    work = VARIANTS[lead.trick].work

    def of(size: str, figure: str) -> str:
        passes = record["results"].get(name, {}).get(size, [])
        trick, plain = ([each[side][figure] for each in passes] for side in ("trick", "plain"))
        # Of seconds, less is more.
        return _ratio(plain, trick) if figure == _FIRST_STEP else _ratio(trick, plain)

    speed = [of(size, lead.figure or RATES[work]) for size in sizes]
    measured = [size for size, cell in zip(sizes, speed, strict=True) if cell != NOT_MEASURED]
    if lead.figure or not measured:
        return [*speed, NOT_MEASURED]
    return [*speed, of(measured[-1], _MEMORY[work])]


def _ratio(trick: Sequence[float], plain: Sequence[float]) -> str:
    if not trick or not plain:
        return NOT_MEASURED
    found = ratios(trick, plain)
    return f"{found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f})"
