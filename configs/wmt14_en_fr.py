"""WMT14 English to French, the paper's second task (Table 2): base, or big with `:big`.

Command:   jaxformer train --config=configs/wmt14_en_fr.py:base --workdir=runs/wmt14_en_fr
           jaxformer evaluate --workdir=runs/wmt14_en_fr --split=test --protocol=paper
Hardware:  eight P100 in the paper; not run by this project.
Time:      12 hours (base), 3.5 days (big) in the paper.
Expected:  38.1 BLEU (base), 41.8 (big) on newstest2014, tokenised.

Departs: the vocabulary is of byte pairs, where the paper has word pieces (5.1).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

SIZES = ("base", "big")


def get_config(arg: str = "base") -> ConfigDict:
    """Returns the settings of the size named by `arg`.

    Raises: ValueError if there is no such size.
    """
    if arg not in SIZES:
        raise ValueError(
            f"configs/wmt14_en_fr.py has the sizes {' and '.join(SIZES)}, got {arg!r}. "
            "Write --config=configs/wmt14_en_fr.py:base, or :big."
        )
    config = runpy.run_path(str(Path(__file__).with_name(f"{arg}.py")))["get_config"]()
    config.data.target = "fr"
    config.data.vocab_size = 32_000
    # For big too (6.1).
    config.train.dropout_rate = 0.1
    return config
