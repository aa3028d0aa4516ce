"""Middle English to modern English in minutes: a small model for two cores of a laptop.

Command:   make quickstart, or
           jaxformer train --config=configs/quickstart.py --workdir=runs/quickstart
           jaxformer evaluate --workdir=runs/quickstart --split=test
Hardware:  two CPU cores.
Time:      about nine minutes of training, and half a minute of translating.
Expected:  19.1 sacreBLEU on held-out chapters (experiments/results/quickstart); the
           untranslated source has 5.2, as the last script of `make quickstart` prints. An hour's
           steps, train.num_steps=24000 with train.dropout_rate=0.2: 28.7 (quickstart_hour there).

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
    config.model.d_model = 128
    config.model.d_ff = 512
    config.model.num_heads = 4
    config.model.num_encoder_layers = 3
    config.model.num_decoder_layers = 3
    # Departs: pre-norm bears the high rate that so few steps need.
    config.model.residual = "jaxformer.model.residual:pre_norm"
    # Departs: the rate ends at 0 with the run, which a short run gains by; it peaks at 4e-3.
    config.optimizer.schedule = "jaxformer.optim:linear_rate"
    config.optimizer.learning_rate = 0.64
    config.optimizer.warmup_steps = 200
    config.data.corpus = "bible"
    config.data.source = "enm"
    config.data.target = "en"
    config.data.vocab_size = 4000
    config.data.max_length = 80
    # Departs: many small steps learn more in ten minutes than few large ones.
    config.data.source_tokens = 1024
    config.data.target_tokens = 1024
    config.train.num_steps = 3500
    config.train.log_every = 50
    config.train.eval_every = 500
    config.train.checkpoint_every = 200
    config.train.keep_checkpoints = 3
    config.decode.average = 3
    config.decode.batch_tokens = 2048
    return config
