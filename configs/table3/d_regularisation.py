"""Table 3, rows (D): dropout and label smoothing.

Command:   jaxformer sweep configs/table3/{base,d_regularisation}.py --scale=laptop \
               --workdir=runs/table3
           jaxformer train --config=configs/table3/d_regularisation.py:laptop/dropout=0.0 \
               --workdir=runs/one
Hardware:  as base.py; at a laptop's scale run with two seeds.
Time:      as base.py, for each row.
Expected:  dropout avoids overfitting (paper: 1.2 BLEU worse without), and more than base's costs
           little; smoothing raises perplexity and BLEU together up to 0.1. On a laptop, with
           model.product_dtype=bfloat16, the perplexity is 21% above base's without dropout, and
           16% with 0.2 (docs/table3.md).

A rate means the same at both scales, so these rows are not scaled. Beside the paper's a laptop has
the row 0.3, which Transformer-Tiny has for so small a corpus, in ten times the steps.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "dropout=0.0": {"paper": {"train.dropout_rate": 0.0}, "laptop": {"train.dropout_rate": 0.0}},
    "dropout=0.2": {"paper": {"train.dropout_rate": 0.2}, "laptop": {"train.dropout_rate": 0.2}},
    "dropout=0.3": {"laptop": {"train.dropout_rate": 0.3}},
    "smoothing=0.0": {
        "paper": {"train.label_smoothing": 0.0},
        "laptop": {"train.label_smoothing": 0.0},
    },
    "smoothing=0.2": {
        "paper": {"train.label_smoothing": 0.2},
        "laptop": {"train.label_smoothing": 0.2},
    },
}

# Perplexity a word piece and BLEU on newstest2013; {} for a row that the paper does not have.
PAPER = {
    "dropout=0.0": {"perplexity": 5.77, "bleu": 24.6},
    "dropout=0.2": {"perplexity": 4.95, "bleu": 25.5},
    "dropout=0.3": {},
    "smoothing=0.0": {"perplexity": 4.67, "bleu": 25.3},
    "smoothing=0.2": {"perplexity": 5.47, "bleu": 25.7},
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label.

    Raises: ValueError if there is no such row.
    """
    base = runpy.run_path(str(Path(__file__).with_name("base.py")))
    return base["get_row"](__file__, ROWS, arg)
