"""The paper's big model on WMT14 English-German, as changes to base.py.

Command:   jaxformer train --config=configs/wmt14_en_de.py:big --workdir=runs/big
Hardware:  eight P100 in the paper, 1.0 seconds a step; not run by this project.
Time:      3.5 days in the paper.
Expected:  28.4 BLEU on newstest2014 (Table 2; tokenised, compounds split).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Returns base's settings with those of the last row of Table 3.

    Raises: ValueError if there is an argument.
    """
    if arg:
        raise ValueError(f"configs/big.py takes no argument, got {arg!r}. Leave it out.")
    config = runpy.run_path(str(Path(__file__).with_name("base.py")))["get_config"]()
    config.model.d_model = 1024
    config.model.d_ff = 4096
    config.model.num_heads = 16
    config.train.dropout_rate = 0.3
    config.train.num_steps = 300_000
    # Ten minutes apart at the paper's second a step; the last 20 are averaged (6.1).
    config.train.eval_every = 600
    config.train.checkpoint_every = 600
    config.train.keep_checkpoints = 20
    config.decode.average = 20
    return config
