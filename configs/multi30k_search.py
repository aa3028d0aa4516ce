"""What does better than Transformer-Tiny at its size, or below it: a search on validation alone.

Command:   jaxformer sweep configs/multi30k_search.py --protocol=multi_bleu_lc --workdir=runs/search
           (here with --jobs=2 and --config.model.product_dtype=bfloat16)
Hardware:  two CPU cores.
Time:      not measured yet.
Expected:  not run yet.

`base` is multi30k_tiny.py with a quarter of its tokens: 4,000 steps of 4,096, a rate that ends at 0
instead of averaged checkpoints, and no end before the last step. Each other row changes one thing,
and `wide` two: width is bought with word pieces, at no more parameters than Tiny's. All output is
in small letters, which sacreBLEU, whose text has others, takes for mistakes: the protocol's BLEU is
what to look at.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "base": {"search": {}},
    "vocab=4000": {"search": {"data.vocab_size": 4000}},
    "pre_norm": {"search": {"model.residual": "jaxformer.model.residual:pre_norm"}},
    "dropout=0.2": {"search": {"train.dropout_rate": 0.2}},
    "layers=3": {"search": {"model.num_encoder_layers": 3, "model.num_decoder_layers": 3}},
    "wide": {"search": {"data.vocab_size": 3000, "model.d_model": 160, "model.d_ff": 320}},
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
    config.optimizer.schedule = "jaxformer.optim:linear_rate"
    # A peak of 0.004: this, times (d_model * warmup_steps) ** -0.5.
    config.optimizer.learning_rate = 1.28
    config.optimizer.warmup_steps = 800
    config.data.source_tokens = 4096
    config.data.target_tokens = 4096
    config.train.num_steps = 4000
    config.train.patience = 0
    config.train.log_every = 100
    config.train.eval_every = 400
    config.train.checkpoint_every = 400
    config.train.keep_checkpoints = 1
    config.decode.average = 1
    config.update_from_flattened_dict(ROWS[label][scale])
    return config
