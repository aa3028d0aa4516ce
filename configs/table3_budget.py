"""What Table 3 at a laptop's scale is trained with: batch and peak rate, chosen with base alone.

Command:   jaxformer sweep configs/table3_budget.py --scale=laptop --workdir=runs/table3_budget
           (here with --jobs=2 and --config.model.product_dtype=bfloat16)
Hardware:  two CPU cores.
Time:      two at a time, each kept to one core, in 23 minutes; alone 14 to 25.
Expected:  with bfloat16 products, one seed, sacreBLEU (perplexity) on the validation split:
           tokens=2048: peak 1.3 32.4 (8.33), 2.6 35.8 (6.86), 5.2 34.2 (7.49);
           tokens=1024: peak 1.3 34.3 (7.34), 2.6 35.5 (6.66), 5.2 28.0 (10.56)
           (experiments/results/table3_laptop/budget).

The first row has the highest BLEU and is base.py's `laptop`. Half the batch at the same peak is 0.2
BLEU behind, which one seed cannot tell, and has the lower perplexity.

Every row sees as many tokens, twelve epochs of Multi30k, and warms up for a fifth of them. A rate
is the factor of Eq. 3; a label says what it peaks at for base's width, in thousandths:
1000 x factor x (d_model x warm-up)^-0.5.
"""

import runpy
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

BATCHES = {
    2048: {"train.num_steps": 3000, "optimizer.warmup_steps": 600},
    1024: {"train.num_steps": 6000, "optimizer.warmup_steps": 1200},
}
PEAKS = (2.6, 1.3, 5.2)


def _row(tokens: int, peak: float) -> dict[str, Any]:
    warmup = BATCHES[tokens]["optimizer.warmup_steps"]
    return {
        "data.source_tokens": tokens,
        "data.target_tokens": tokens,
        "optimizer.learning_rate": round(peak / 1000 * (128 * warmup) ** 0.5, 2),
        **BATCHES[tokens],
    }


ROWS = {
    f"tokens={tokens},peak={peak}": {"laptop": _row(tokens, peak)}
    for tokens in BATCHES
    for peak in PEAKS
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label; of the first one unless one is named.

    Raises: ValueError if there is no such row.
    """
    arg = arg or f"laptop/{next(iter(ROWS))}"
    base = runpy.run_path(str(Path(__file__).with_name("table3") / "base.py"))
    return base["get_row"](__file__, ROWS, arg)
