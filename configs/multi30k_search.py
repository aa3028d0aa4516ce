"""What does better than Transformer-Tiny at its size, or below it: a search on validation alone.

Command:   jaxformer sweep configs/multi30k_search.py --protocol=multi_bleu_lc --workdir=runs/search
           (here with --jobs=2 and --config.model.product_dtype=bfloat16)
Hardware:  two CPU cores.
Time:      not measured yet.
Expected:  not run yet.

`recipe` is multi30k_recipe.py; each other row changes one thing, and `wide` buys width with word
pieces, at no more parameters than Tiny's. All output is in small letters, which sacreBLEU, whose
text has others, takes for mistakes: the protocol's BLEU is what to look at.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "recipe": {"search": {}},
    "dropout=0.2": {"search": {"train.dropout_rate": 0.2}},
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
    config = runpy.run_path(str(Path(__file__).with_name("multi30k_recipe.py")))["get_config"]()
    config.update_from_flattened_dict(ROWS[label][scale])
    return config
