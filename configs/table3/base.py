"""Table 3, the row that the others are compared with, and the two scales of the table.

Command:   jaxformer sweep configs/table3/*.py --scale=laptop --seeds=3 --workdir=runs/table3
           jaxformer train --config=configs/table3/base.py:laptop/base --workdir=runs/one
Hardware:  eight P100 in the paper, for `paper`, not run; two CPU cores for `laptop`.
Time:      12 hours in the paper; 36 minutes of steps on a laptop's cores that other work shared.
Expected:  perplexity 4.92 and 25.8 BLEU on newstest2013 (paper); on a laptop, with
           model.product_dtype=bfloat16, 6.86 and 35.8 sacreBLEU on Multi30k's validation split with
           seed 0, 6.92 and 35.0 with seed 1 (experiments/results/table3_laptop).

`paper` is WMT14 English-German as in the paper, with newstest2013 for validation, which Table 3
reports. `laptop` is Multi30k English-German with a Transformer of the shape of Wu et al.'s
Transformer-Tiny (2021). Either is translated with the newest checkpoint alone: Table 3 averages
none.

The other files of this folder are rows: changes to these settings. A row has the paper's name at
both scales. At scale `laptop` it changes a size by the factor that it has in the paper, so that
d_k=16, a quarter of the paper's 64, is there a quarter of 32.
"""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

ROWS = {"base": {"paper": {}, "laptop": {}}}

# Perplexity a word piece and BLEU on newstest2013; parameters.
PAPER = {"base": {"perplexity": 4.92, "bleu": 25.8, "parameters": 65e6}}

_CONFIGS = Path(__file__).resolve().parent.parent


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label.

    Raises: ValueError if there is no such row.
    """
    return get_row(__file__, ROWS, arg)


def paper() -> ConfigDict:
    """Returns base's settings at the paper's scale."""
    config = runpy.run_path(str(_CONFIGS / "wmt14_en_de.py"))["get_config"]("base")
    config.decode.average = 1
    return config


def laptop() -> ConfigDict:
    """Returns base's settings at a laptop's scale."""
    config = runpy.run_path(str(_CONFIGS / "base.py"))["get_config"]()
    # The budget of every row: twelve epochs of Multi30k, a fifth of it warm-up, up to a rate
    # of 2.6e-3 at base's width (Eq. 3). The sweep ../table3_budget.py chose batch and rate.
    # Dropout is the paper's 0.1, not Transformer-Tiny's 0.3, which is for ten times the budget.
    config.data.source_tokens = 2048
    config.data.target_tokens = 2048
    config.train.num_steps = 3000
    config.optimizer.warmup_steps = 600
    config.optimizer.learning_rate = 0.72
    # The shape of Transformer-Tiny.
    config.model.num_encoder_layers = 4
    config.model.num_decoder_layers = 4
    config.model.d_model = 128
    config.model.d_ff = 256
    config.model.num_heads = 4
    config.data.corpus = "multi30k"
    config.data.vocab_size = 6000
    # Captions are short; row E has a table of so many positions.
    config.data.max_length = 128
    config.model.max_length = 128
    config.train.log_every = 50
    config.train.eval_every = 250
    config.train.checkpoint_every = 500
    config.train.keep_checkpoints = 1
    config.decode.average = 1
    return config


SCALES = {"paper": paper, "laptop": laptop}


def get_row(file: str, rows: Mapping[str, Mapping[str, Mapping[str, Any]]], arg: str) -> ConfigDict:
    """Returns base's settings with the changes of one row.

    Args:
      file: of the rows, for messages.
      rows: label -> scale -> dotted key -> value.
      arg: scale/label.

    Raises: ValueError if there is no such scale or row.
    """
    name = "/".join(Path(file).parts[-2:])
    scale, slash, label = arg.partition("/")
    if not slash:
        example = f"laptop/{next(iter(rows))}"
        raise ValueError(f"{name} needs a scale and a row, such as {example}; got {arg!r}.")
    if scale not in SCALES:
        raise ValueError(f"Unknown scale {scale!r} in {name}; its scales are {', '.join(SCALES)}.")
    if label not in rows:
        raise ValueError(f"Unknown row {label!r} in {name}; its rows are {', '.join(rows)}.")
    if scale not in rows[label]:
        raise ValueError(
            f"Row {label!r} of {name} is not for scale {scale!r}; it is for "
            f"{', '.join(rows[label])}."
        )
    config = SCALES[scale]()
    config.update_from_flattened_dict(rows[label][scale])
    return config
