"""Table 3, the last row: the big model.

Command:   jaxformer sweep configs/table3/{base,big}.py --scale=laptop --workdir=runs/table3
           jaxformer train --config=configs/table3/big.py:laptop/big --workdir=runs/one
Hardware:  as base.py; at a laptop's scale run with one seed.
Time:      3.5 days on eight P100 in the paper; 43 minutes of steps on one of a laptop's cores.
Expected:  the best row (paper: perplexity 4.33, 26.4 BLEU). On a laptop it hardly learns within the
           budget: with model.product_dtype=bfloat16 perplexity 15.8, 16.4 BLEU (docs/table3.md).

Widths and heads are twice base's, and dropout is 0.3 at both scales. On a laptop it has base's
steps, since all rows there have one budget.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "big": {
        "paper": {
            "model.d_model": 1024,
            "model.d_ff": 4096,
            "model.num_heads": 16,
            "train.dropout_rate": 0.3,
            "train.num_steps": 300_000,
        },
        "laptop": {
            "model.d_model": 256,
            "model.d_ff": 512,
            "model.num_heads": 8,
            "train.dropout_rate": 0.3,
        },
    },
}

# Perplexity a word piece and BLEU on newstest2013; parameters.
PAPER = {"big": {"perplexity": 4.33, "bleu": 26.4, "parameters": 213e6}}

# A sweep takes files by this number, which is 0 where there is none: so this one comes last.
PLACE = 1


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label.

    Raises: ValueError if there is no such row.
    """
    base = runpy.run_path(str(Path(__file__).with_name("base.py")))
    return base["get_row"](__file__, ROWS, arg)
