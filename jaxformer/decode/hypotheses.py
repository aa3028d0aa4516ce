"""What decoding takes and gives: the step function, and the hypotheses it leads to."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from flax import struct

from jaxformer.model.tokens import EOS

# (token_BM, cache) -> (logits_BMW, cache): the model reads one token of every hypothesis, BOS
# first, and tells what may follow. M hypotheses of one sentence live side by side. The cache is
# any pytree. A logit of -1e8 or less says that the token cannot follow; NaN, that none can.
Step: TypeAlias = Callable[[jax.Array, Any], tuple[jax.Array, Any]]

# (cache, beam_BM) -> the cache in which hypothesis m of sentence b continues the old beam_BM[b, m].
Reorder: TypeAlias = Callable[[Any, jax.Array], Any]


# (cache, length) -> the cache with room for `length` positions, more than it had.
Grow: TypeAlias = Callable[[Any, int], Any]


class Hypotheses(struct.PyTreeNode):
    """M hypotheses of each sentence, best first (from `sample`: in the order drawn).

    A place for which there is none has score and log_prob -inf, length 0 and PAD only.

    Attributes:
      token_BMT: int32, word pieces, EOS, then PAD.
      score_BM: float32, by which they are ranked: log_prob over the length penalty, if any.
      log_prob_BM: float32, of all tokens, EOS included, in nats.
      length_BM: int32, tokens, EOS included.
    """

    token_BMT: jax.Array
    score_BM: jax.Array
    log_prob_BM: jax.Array
    length_BM: jax.Array


def check_sizes(limit_B: jax.Array, max_length: int, **counts: int) -> None:
    """Raises: ValueError if limit_B is no vector, or a size below 1."""
    if limit_B.ndim != 1:
        raise ValueError(f"limit_B has shape {limit_B.shape}; give one limit a sentence.")
    for name, count in {"max_length": max_length, **counts}.items():
        if count < 1:
            raise ValueError(f"{name}={count} is too small. Set it to 1 or more.")


def check_logits(logits_BMW: jax.Array, token_BM: jax.Array) -> None:
    """Raises: ValueError if a step's logits do not match its tokens, or leave no room for EOS."""
    if logits_BMW.ndim != 3 or logits_BMW.shape[:2] != token_BM.shape:
        raise ValueError(
            f"The step function gave logits of shape {logits_BMW.shape} for tokens of shape "
            f"{token_BM.shape}; it must add one axis, the vocabulary's."
        )
    if logits_BMW.shape[2] <= EOS:
        raise ValueError(
            f"The step function gave logits for {logits_BMW.shape[2]} tokens; the vocabulary must "
            f"hold at least EOS, which is token {EOS}."
        )
