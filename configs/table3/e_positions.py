"""Table 3, row (E): learned positions instead of sinusoids.

Command:   jaxformer sweep configs/table3/{base,e_positions}.py --scale=laptop --workdir=runs/table3
           jaxformer train --config=configs/table3/e_positions.py:laptop/learned --workdir=runs/one
Hardware:  as base.py; at a laptop's scale run with one seed.
Time:      as base.py.
Expected:  nearly base's scores (paper: the same perplexity, 0.1 BLEU less). So it is on a laptop,
           with model.product_dtype=bfloat16: perplexity 6.88, 36.1 BLEU (docs/table3.md).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "learned": {
        "paper": {"model.positions": "jaxformer.model.positions:Learned"},
        "laptop": {"model.positions": "jaxformer.model.positions:Learned"},
    },
}

# Perplexity a word piece and BLEU on newstest2013.
PAPER = {"learned": {"perplexity": 4.92, "bleu": 25.7}}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label.

    Raises: ValueError if there is no such row.
    """
    base = runpy.run_path(str(Path(__file__).with_name("base.py")))
    return base["get_row"](__file__, ROWS, arg)
