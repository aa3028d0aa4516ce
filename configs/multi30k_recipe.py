"""What does better than Transformer-Tiny on Multi30k, with fewer parameters and half its updates.

Command:   jaxformer train --config=configs/multi30k_recipe.py --workdir=runs/recipe
           jaxformer evaluate --workdir=runs/recipe --split=test --protocol=multi_bleu_lc
Hardware:  two CPU cores.
Time:      not measured yet.
Expected:  not run yet.

multi30k_tiny.py with 4,000 merges, which leaves a model of two thirds of the parameters, 5,000
updates of half the batch, some 40 epochs, and a rate that ends at 0 instead of averaged
checkpoints. Chosen on the validation split alone (multi30k_search.py). Needs the extra `moses`.
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
    config.optimizer.schedule = "jaxformer.optim:linear_rate"
    # A peak of 0.003: this, times (d_model * warmup_steps) ** -0.5.
    config.optimizer.learning_rate = 0.96
    config.optimizer.warmup_steps = 800
    config.data.vocab_size = 4000
    config.data.source_tokens = 4096
    config.data.target_tokens = 4096
    config.train.num_steps = 5000
    config.train.patience = 0
    config.train.log_every = 100
    config.train.eval_every = 500
    config.train.checkpoint_every = 250
    config.train.keep_checkpoints = 5
    config.decode.average = 1
    return config
