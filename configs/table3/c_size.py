"""Table 3, rows (C): layers, width and inner width of the model.

Command:   jaxformer sweep configs/table3/{base,c_size}.py --scale=laptop --workdir=runs/table3
           jaxformer train --config=configs/table3/c_size.py:laptop/N=2 --workdir=runs/one
Hardware:  as base.py; at a laptop's scale run with one seed.
Time:      as base.py for a row of base's size; more for the larger rows.
Expected:  larger models are better (paper: 23.7 BLEU with 2 layers, 26.2 with d_ff = 4096). On a
           laptop, with model.product_dtype=bfloat16, wider models have the lower perplexity, N=4 is
           better than base, and N=8 fails to learn within the budget (docs/table3.md).

Layers are a third, two thirds and four thirds of base's: of 6 in the paper, and of 4 on a laptop,
rounded to 1, 3 and 5. Widths are half and twice base's, and so are then d_k and d_v.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

ROWS = {
    "N=2": {
        "paper": {"model.num_encoder_layers": 2, "model.num_decoder_layers": 2},
        "laptop": {"model.num_encoder_layers": 1, "model.num_decoder_layers": 1},
    },
    "N=4": {
        "paper": {"model.num_encoder_layers": 4, "model.num_decoder_layers": 4},
        "laptop": {"model.num_encoder_layers": 3, "model.num_decoder_layers": 3},
    },
    "N=8": {
        "paper": {"model.num_encoder_layers": 8, "model.num_decoder_layers": 8},
        "laptop": {"model.num_encoder_layers": 5, "model.num_decoder_layers": 5},
    },
    "d_model=256": {"paper": {"model.d_model": 256}, "laptop": {"model.d_model": 64}},
    "d_model=1024": {"paper": {"model.d_model": 1024}, "laptop": {"model.d_model": 256}},
    "d_ff=1024": {"paper": {"model.d_ff": 1024}, "laptop": {"model.d_ff": 128}},
    "d_ff=4096": {"paper": {"model.d_ff": 4096}, "laptop": {"model.d_ff": 512}},
}

# Perplexity a word piece and BLEU on newstest2013; parameters.
PAPER = {
    "N=2": {"perplexity": 6.11, "bleu": 23.7, "parameters": 36e6},
    "N=4": {"perplexity": 5.19, "bleu": 25.3, "parameters": 50e6},
    "N=8": {"perplexity": 4.88, "bleu": 25.5, "parameters": 80e6},
    "d_model=256": {"perplexity": 5.75, "bleu": 24.5, "parameters": 28e6},
    "d_model=1024": {"perplexity": 4.66, "bleu": 26.0, "parameters": 168e6},
    "d_ff=1024": {"perplexity": 5.12, "bleu": 25.4, "parameters": 53e6},
    "d_ff=4096": {"perplexity": 4.75, "bleu": 26.2, "parameters": 90e6},
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings of a row named as scale/label.

    Raises: ValueError if there is no such row.
    """
    base = runpy.run_path(str(Path(__file__).with_name("base.py")))
    return base["get_row"](__file__, ROWS, arg)
