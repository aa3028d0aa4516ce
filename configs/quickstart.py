"""Middle English to modern English in minutes: a small model for two cores of a laptop.

Command:   make quickstart, or
           jaxformer train --config=configs/quickstart.py --workdir=runs/quickstart
           jaxformer evaluate --workdir=runs/quickstart --split=test
Hardware:  two CPU cores.
Time:      at most 12 minutes.
Expected:  14 sacreBLEU on held-out chapters; copying the source gives about 4.

The text is Wycliffe's Bible against the World English Bible, from the extra `quickstart`.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings.

    Raises: ValueError if there is an argument.
    """
    if arg:
        raise ValueError(f"configs/quickstart.py takes no argument, got {arg!r}. Leave it out.")
    config = runpy.run_path(str(Path(__file__).with_name("base.py")))["get_config"]()
    config.model.d_model = 192
    config.model.d_ff = 768
    config.model.num_heads = 4
    config.model.num_encoder_layers = 3
    config.model.num_decoder_layers = 3
    # Departs: so that a warm-up of a few hundred steps is enough.
    config.model.residual = "jaxformer.model.residual:pre_norm"
    config.optimizer.warmup_steps = 400
    config.data.corpus = "bible"
    config.data.source = "enm"
    config.data.target = "en"
    config.data.vocab_size = 3000
    config.data.source_tokens = 4096
    config.data.target_tokens = 4096
    config.train.num_steps = 1500
    config.train.log_every = 20
    config.train.eval_every = 500
    config.train.checkpoint_every = 100
    config.train.keep_checkpoints = 3
    config.decode.average = 3
    return config
