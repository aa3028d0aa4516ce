"""The paper's parser of Table 4, "WSJ only", as changes to base.py (section 6.3).

Command:   jaxformer train --config=configs/parsing_paper.py --workdir=runs/wsj \
               --config.data.train_target=wsj-02-21.ptb --config.data.valid_target=wsj-22.ptb \
               --config.data.test_target=wsj-23.ptb
           python experiments/table4_parsing.py --workdir=runs/wsj --split=test
Hardware:  eight P100 in the paper, as it seems; not run by this project.
Time:      not stated in the paper.
Expected:  91.3 F1 on section 23 of the Wall Street Journal (Table 4).

The files are bracketed trees of the Penn Treebank, which the Linguistic Data Consortium licenses.
Without them the corpus is CRAFT (docs/parsing.md), on which there is no published figure.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Returns base's settings with those of section 6.3.

    Raises: ValueError if there is an argument.
    """
    if arg:
        raise ValueError(f"configs/parsing_paper.py takes no argument, got {arg!r}. Leave it out.")
    config = runpy.run_path(str(Path(__file__).with_name("base.py")))["get_config"]()
    config.model.d_model = 1024
    config.model.num_encoder_layers = 4
    config.model.num_decoder_layers = 4
    config.model.vocab_multiple = 64
    config.data.corpus = "treebank"
    config.data.source = "words"
    config.data.target = "brackets"
    config.data.vocab_type = "brackets"
    # Departs: these are the words' pieces; about a hundred symbols of trees come on top.
    config.data.vocab_size = 16_000
    # A tree has about two and a half symbols a word.
    config.data.max_length = 512
    # Chosen on section 22, as was the rate; the paper gives no values. This one is that of the
    # authors' tensor2tensor (transformer_parsing_base).
    config.train.dropout_rate = 0.2
    config.decode.num_beams = 21
    config.decode.alpha = 0.3
    config.decode.extra_length = 300
    config.decode.batch_tokens = 1024
    return config
