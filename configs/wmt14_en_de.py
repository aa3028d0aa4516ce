"""WMT14 English to German, the paper's first task (Table 2): base, or big with `:big`.

Command:   jaxformer train --config=configs/wmt14_en_de.py:base --workdir=runs/wmt14_en_de
           jaxformer evaluate --workdir=runs/wmt14_en_de --split=test --protocol=paper
Hardware:  eight P100 in the paper; not run by this project.
Time:      12 hours (base), 3.5 days (big) in the paper.
Expected:  27.3 BLEU (base), 28.4 (big) on newstest2014, tokenised and with compounds split; what
           sacreBLEU prints for the same outputs is about 0.7 to 1.5 lower.

The corpus is read as TFDS prepares it: see jaxformer/data/wmt14.py.
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
            f"configs/wmt14_en_de.py has the sizes {' and '.join(SIZES)}, got {arg!r}. "
            "Write --config=configs/wmt14_en_de.py:base, or :big."
        )
    # base.py and big.py are settings for this corpus.
    return runpy.run_path(str(Path(__file__).with_name(f"{arg}.py")))["get_config"]()
