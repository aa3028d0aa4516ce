"""Table 3, rows (A): the number of heads, at constant width d_model = heads x d_k = heads x d_v.

Command:   jaxformer sweep configs/table3/{base,a_heads}.py --scale=laptop --workdir=runs/table3
           jaxformer train --config=configs/table3/a_heads.py:laptop/h=1 --workdir=runs/one
Hardware:  as base.py; at a laptop's scale run with two seeds.
Time:      as base.py, for each row.
Expected:  a single head is worst, and too many are worse than base too (paper: 0.9 and 0.4 BLEU).
           On a laptop, with model.product_dtype=bfloat16, a perplexity 3% and 12% above base's:
           there a single head is not worst (docs/table3.md).

A laptop's base has 4 heads where the paper's has 8, so that its rows have 1, 2, 8 and 16: h=1 is
one head at both scales, and the others half, twice and four times as many as base.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

# d_k and d_v are d_model / heads, as in base.
ROWS = {
    "h=1": {"paper": {"model.num_heads": 1}, "laptop": {"model.num_heads": 1}},
    "h=4": {"paper": {"model.num_heads": 4}, "laptop": {"model.num_heads": 2}},
    "h=16": {"paper": {"model.num_heads": 16}, "laptop": {"model.num_heads": 8}},
    "h=32": {"paper": {"model.num_heads": 32}, "laptop": {"model.num_heads": 16}},
}

# Perplexity a word piece and BLEU on newstest2013.
PAPER = {
    "h=1": {"perplexity": 5.29, "bleu": 24.9},
    "h=4": {"perplexity": 5.00, "bleu": 25.5},
    "h=16": {"perplexity": 4.91, "bleu": 25.8},
    "h=32": {"perplexity": 5.01, "bleu": 25.4},
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label.

    Raises: ValueError if there is no such row.
    """
    base = runpy.run_path(str(Path(__file__).with_name("base.py")))
    return base["get_row"](__file__, ROWS, arg)
