"""Table 3, rows (B): the width d_k of a head's queries and keys, d_v staying as in base.

Command:   jaxformer sweep configs/table3/{base,b_key_size}.py --scale=laptop --workdir=runs/table3
           jaxformer train --config=configs/table3/b_key_size.py:laptop/d_k=16 --workdir=runs/one
Hardware:  as base.py; at a laptop's scale run with two seeds.
Time:      as base.py, for each row.
Expected:  narrower keys are worse (paper: 0.7 and 0.4 BLEU, and a perplexity 5% and 2% above
           base's; on a laptop, with model.product_dtype=bfloat16, 8% and 5%: docs/table3.md).

A quarter and a half of base's width: of 64 in the paper, of 32 on a laptop.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "d_k=16": {"paper": {"model.d_k": 16}, "laptop": {"model.d_k": 8}},
    "d_k=32": {"paper": {"model.d_k": 32}, "laptop": {"model.d_k": 16}},
}

# Perplexity a word piece and BLEU on newstest2013; parameters.
PAPER = {
    "d_k=16": {"perplexity": 5.16, "bleu": 25.1, "parameters": 58e6},
    "d_k=32": {"perplexity": 5.01, "bleu": 25.4, "parameters": 60e6},
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label.

    Raises: ValueError if there is no such row.
    """
    base = runpy.run_path(str(Path(__file__).with_name("base.py")))
    return base["get_row"](__file__, ROWS, arg)
