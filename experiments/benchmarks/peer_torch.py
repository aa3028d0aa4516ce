"""One measured process of PyTorch's: `python -m experiments.benchmarks.peer_torch WHAT ...`.

Runs in the peers' environment, and prints a line of JSON.

    transformer  training steps of nn.Transformer
    marian       training steps of Hugging Face's Marian
    ceiling      the fastest matrix products

The work is that of section 5: a shared embedding, sinusoids, dropout on embeddings and sub-layers
only, label smoothing, Adam. Rows are full, so that no padding is masked. nn.Transformer has a last
norm and biases in its attention, which the paper's model lacks; so has Marian the biases.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from experiments.benchmarks.sizes import (
    BOS,
    EOS,
    LABEL_SMOOTHING,
    PAD,
    SIZES,
    Size,
    read_batches,
)
from experiments.shared.timing import fastest, report, time_steps

CEILING_SHAPES = ((2048, 2048, 2048), (2048, 512, 2048), (2048, 128, 256))
DTYPES = ("float32", "bfloat16")

Model = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(source_BS, target_input_BT) -> logits_BTW."""


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["ceiling", *sorted(MODELS)])
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--batches", help="file that sizes.write_batches wrote")
    parser.add_argument("--seconds", type=float, default=10.0, help="about so long is timed")
    parser.add_argument("--started", type=float, default=time.time(), help="of this process")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    report(ceiling(chosen) if chosen.what == "ceiling" else train(chosen))


class PlainTransformer(nn.Module):
    """nn.Transformer between the paper's embeddings and its projection."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocab_size, size.d_model)
        nn.init.normal_(self.embedding.weight, std=size.d_model**-0.5)
        self.dropout = nn.Dropout(size.dropout_rate)
        self.stacks = nn.Transformer(
            size.d_model,
            size.num_heads,
            size.layers,
            size.layers,
            size.d_ff,
            size.dropout_rate,
            batch_first=True,
        )
        for module in self.stacks.modules():
            # Section 5.4 has dropout neither on attention's weights nor within the feed-forward.
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                module.dropout = nn.Dropout(0.0)
        self.register_buffer("encoding_TD", sinusoids(size.length, size.d_model))
        self.register_buffer("mask_TT", self.stacks.generate_square_subsequent_mask(size.length))

    def forward(self, source_BS: torch.Tensor, target_input_BT: torch.Tensor) -> torch.Tensor:
        """Returns logits_BTW."""
        hidden_BTD = self.stacks(
            self.embed(source_BS),
            self.embed(target_input_BT),
            tgt_mask=self.mask_TT,
            tgt_is_causal=True,
        )
        return hidden_BTD @ self.embedding.weight.T

    def embed(self, token_BT: torch.Tensor) -> torch.Tensor:
        """Returns the embeddings with their positions."""
        scale = math.sqrt(self.embedding.embedding_dim)
        return self.dropout(self.embedding(token_BT) * scale + self.encoding_TD)


def sinusoids(length: int, d_model: int) -> torch.Tensor:
    """Returns encoding_TD of section 3.5."""
    rate = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(length, d_model)


def marian(size: Size) -> Model:
    """Returns Hugging Face's Marian of a size."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=size.vocab_size,
        d_model=size.d_model,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_ffn_dim=size.d_ff,
        decoder_ffn_dim=size.d_ff,
        encoder_attention_heads=size.num_heads,
        decoder_attention_heads=size.num_heads,
        dropout=size.dropout_rate,
        attention_dropout=0.0,
        activation_dropout=0.0,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=size.length,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
        use_cache=False,
    )
    model = MarianMTModel(config)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, source_BS: torch.Tensor, target_input_BT: torch.Tensor):
            return self.model(input_ids=source_BS, decoder_input_ids=target_input_BT).logits

    return Wrapped()


MODELS: dict[str, Callable[[Size], Any]] = {"transformer": PlainTransformer, "marian": marian}


def train(chosen: argparse.Namespace) -> dict[str, Any]:
    """Times training steps."""
    size = SIZES[chosen.size]
    batches = [
        tuple(torch.from_numpy(token_BT).long() for token_BT in batch)
        for batch in read_batches(chosen.batches)
    ]
    model = MODELS[chosen.what](size).train()
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING, ignore_index=PAD)
    losses = []

    def step(number: int) -> None:
        source_BS, target_BT = batches[number % len(batches)]
        start_B1 = torch.full_like(target_BT[:, :1], BOS)
        target_input_BT = torch.cat([start_B1, target_BT[:, :-1]], dim=1)
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen.dtype == "bfloat16"):
            logits_BTW = model(source_BS, target_input_BT)
            loss = cross_entropy(logits_BTW.flatten(0, 1), target_BT.flatten())
        loss.backward()
        adam.step()
        losses.append(loss.item())

    found = time_steps(step, lambda: None, seconds=chosen.seconds, started=chosen.started)
    if not math.isfinite(losses[-1]):
        raise ValueError("The loss is not finite, so that this has not measured a training.")
    return {
        **found,
        "tokens_per_second": size.tokens / found["step_seconds"],
        "loss": losses[-1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "threads": torch.get_num_threads(),
        "version": torch.__version__,
    }


def ceiling(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measures the operations a second of matrix products."""
    found: dict[str, Any] = {}
    for dtype in DTYPES:
        for rows, inner, columns in CEILING_SHAPES:
            a = torch.ones(rows, inner, dtype=getattr(torch, dtype))
            b = torch.ones(inner, columns, dtype=getattr(torch, dtype))

            def work(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
                torch.matmul(a, b)

            rate = 2 * rows * inner * columns / fastest(work, chosen.seconds / 6)
            found.setdefault(dtype, {})[f"{rows}x{inner}x{columns}"] = rate
    return found


if __name__ == "__main__":
    main()
