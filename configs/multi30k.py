"""Multi30k, English captions of images to German: a small model for 29,000 short sentences.

Command:   jaxformer train --config=configs/multi30k.py --workdir=runs/multi30k
           jaxformer evaluate --workdir=runs/multi30k --split=test
Hardware:  two CPU cores.
Time:      about an hour, estimated from the speed of smaller runs.
Expected:  not measured: settings of common sense, none of them tuned.

The captions come from data.manual_dir, from $JAXFORMER_DATA/multi30k, or by download. French:
--config.data.target=fr.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings.

    Raises: ValueError if there is an argument.
    """
    if arg:
        raise ValueError(f"configs/multi30k.py takes no argument, got {arg!r}. Leave it out.")
    config = runpy.run_path(str(Path(__file__).with_name("base.py")))["get_config"]()
    config.model.d_model = 256
    config.model.d_ff = 512
    config.model.num_heads = 4
    config.model.num_encoder_layers = 3
    config.model.num_decoder_layers = 3
    config.optimizer.warmup_steps = 1000
    config.data.corpus = "multi30k"
    config.data.source = "en"
    config.data.target = "de"
    config.data.vocab_size = 6000
    config.data.source_tokens = 4096
    config.data.target_tokens = 4096
    config.train.dropout_rate = 0.3
    config.train.num_steps = 5000
    config.train.log_every = 50
    config.train.eval_every = 250
    config.train.checkpoint_every = 250
    return config
