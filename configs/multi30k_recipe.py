"""Transformer-Tiny on Multi30k with a cool-down: a recipe to try against it at its own size.

Command:   jaxformer train --config=configs/multi30k_recipe.py --workdir=runs/recipe
           jaxformer evaluate --workdir=runs/recipe --split=valid --protocol=multi_bleu_lc
Hardware:  two CPU cores.
Time:      Tiny's up to step 4,788, and 26 minutes from there, two seeds beside each other.
Expected:  on validation, seeds 0 and 1: perplexity 5.01 and 5.02, 41.69 and 41.68 BLEU by Tiny's
           protocol, where Tiny's averages of ten checkpoints have 4.99 and 4.97, 41.60 and 41.69
           (experiments/results/multi30k_tiny). So it is as good, and no better; it was not scored
           on the test split.

multi30k_tiny.py up to step 4,800; in 1,200 more the rate falls linearly to 0, and the last
checkpoint takes the place of an average of ten. A run of Tiny's may be gone on with by these
settings, if its checkpoints after step 4,800 are taken away before: up to there both are the same.
Needs the extra `moses`.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings.

    Raises: ValueError if there is an argument.
    """
    if arg:
        raise ValueError(
            f"configs/multi30k_recipe.py takes no argument, got {arg!r}. Leave it out."
        )
    config = runpy.run_path(str(Path(__file__).with_name("multi30k_tiny.py")))["get_config"]()
    config.optimizer.schedule = "jaxformer.optim:cooldown_rate"
    config.train.num_steps = 6000
    config.train.patience = 0
    config.decode.average = 1
    return config
