"""Fewer word pieces and fewer updates than Transformer-Tiny's: a search on validation alone.

Command:   jaxformer sweep configs/multi30k_search.py --protocol=multi_bleu_lc --workdir=runs/search
           (here with --config.model.product_dtype=bfloat16)
Hardware:  two CPU cores.
Time:      about 50 minutes a row, on one core or more beside other trainings.
Expected:  by the protocol on the validation split, one seed: pre_norm 39.5, dropout=0.2 39.8
           (experiments/results/multi30k_search), where Tiny has 41.6 and 41.7. With `post_norm`
           perplexity is still 13 after half of the steps, where pre_norm has 5.8; it was stopped.

Rows have 4,000 merges and 1.8 M parameters, and see 45 epochs, half of what Tiny does, in 5,000
steps of half the batch, with a rate that ends at 0. All output is in small letters, which
sacreBLEU, whose text has others, takes for mistakes: the protocol's BLEU is what to look at.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "pre_norm": {"search": {}},
    "dropout=0.2": {"search": {"train.dropout_rate": 0.2}},
    "post_norm": {"search": {"model.residual": "jaxformer.model.residual:post_norm"}},
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label; of the first one unless one is named.

    Raises: ValueError if there is no such row.
    """
    arg = arg or f"search/{next(iter(ROWS))}"
    scale, _, label = arg.partition("/")
    if scale not in ROWS.get(label, {}):
        rows = ", ".join(f"search/{label}" for label in ROWS)
        raise ValueError(f"configs/multi30k_search.py has no row {arg!r}; its rows are {rows}.")
    config = runpy.run_path(str(Path(__file__).with_name("multi30k_tiny.py")))["get_config"]()
    config.model.residual = "jaxformer.model.residual:pre_norm"
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
    config.train.eval_every = 250
    config.train.checkpoint_every = 250
    config.train.keep_checkpoints = 5
    config.decode.average = 1
    config.update_from_flattened_dict(ROWS[label][scale])
    return config
