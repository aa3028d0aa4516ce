"""Your own text: files that are line by line each other's translation, gzip or not.

Command:   jaxformer train --config=configs/plain_text.py --workdir=runs/mine \
               --config.data.train_source=train.de --config.data.train_target=train.en \
               --config.data.valid_source=valid.de --config.data.valid_target=valid.en
           jaxformer translate --workdir=runs/mine < news.de > news.en
Hardware:  any; a CPU will do for some ten thousand pairs.
Time:      depends on the text; the progress line says how much is left.
Expected:  depends on the text. For millions of pairs start from base.py's sizes instead:
           --config.model.d_model=512 and so on.

A text too small for data.vocab_size says the largest that it allows.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings; the training files are still to be named.

    Raises: ValueError if there is an argument.
    """
    if arg:
        raise ValueError(f"configs/plain_text.py takes no argument, got {arg!r}. Leave it out.")
    config = runpy.run_path(str(Path(__file__).with_name("base.py")))["get_config"]()
    config.model.d_model = 256
    config.model.d_ff = 1024
    config.model.num_heads = 4
    config.model.num_encoder_layers = 3
    config.model.num_decoder_layers = 3
    config.optimizer.warmup_steps = 1000
    config.data.corpus = "plain_text"
    # The files say which language is which.
    config.data.source = ""
    config.data.target = ""
    config.data.vocab_size = 8000
    config.data.source_tokens = 4096
    config.data.target_tokens = 4096
    config.train.num_steps = 10_000
    config.train.log_every = 50
    config.train.eval_every = 500
    config.train.checkpoint_every = 500
    return config
