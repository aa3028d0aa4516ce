"""The Transformer of "Attention Is All You Need", as pure functions of parameters and arrays.

Every array of rank two or more carries its axes as a suffix, and einsum uses the same letters:

    B  batch (sentences)            H  attention heads
    T  target or query position     K  width of a query or key, d_k
    S  source or key position       V  width of a value, d_v
    D  width of the model, d_model  W  vocabulary (word pieces)
    F  inner width, d_ff            M  beams (hypotheses of one sentence)
"""

from jaxformer.model.attention import MultiHeadAttention, dot_product_attention
from jaxformer.model.counting import forward_flops, parameter_count
from jaxformer.model.dropout import Dropout
from jaxformer.model.fused import fused_attention
from jaxformer.model.heads import Head, entropy_sums, heads_of, silence_head
from jaxformer.model.masks import Mask, Positions
from jaxformer.model.positions import Learned, NoPositions, Sinusoidal
from jaxformer.model.residual import Residual, post_norm, pre_norm
from jaxformer.model.restricted import restricted_attention
from jaxformer.model.splash import splash_attention
from jaxformer.model.tokens import BOS, EOS, PAD, UNK
from jaxformer.model.transformer import (
    Cache,
    Transformer,
    attention_weights,
    grow,
    reorder,
    shift_right,
)

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "Cache",
    "Dropout",
    "Head",
    "Learned",
    "Mask",
    "MultiHeadAttention",
    "NoPositions",
    "Positions",
    "Residual",
    "Sinusoidal",
    "Transformer",
    "attention_weights",
    "dot_product_attention",
    "entropy_sums",
    "forward_flops",
    "fused_attention",
    "grow",
    "heads_of",
    "parameter_count",
    "post_norm",
    "pre_norm",
    "reorder",
    "restricted_attention",
    "shift_right",
    "silence_head",
    "splash_attention",
]
