"""Decoding held to outputs that a grammar allows: what cannot follow is not a candidate.

Departs: the paper's search is free, and so is every search here that is not given a grammar.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxformer.decode.hypotheses import Grow, Reorder, Step

# As the model's own for rows that pad the vocabulary.
_ILLEGAL = -1e9


class Grammar(Protocol):
    """What may follow a hypothesis, by a state of its own: a pytree of arrays [B, M, ...]."""

    def start(self, source_BS: jax.Array, num_beams: int) -> Any:
        """Returns the state before the first token."""

    def advance(self, state: Any, token_BM: jax.Array) -> Any:
        """Returns the state after one more token; BOS, the first, and PAD change nothing."""

    def legal(self, state: Any) -> jax.Array:
        """Returns legal_BMW, True where that token may follow."""


class Held(NamedTuple):
    """What a search takes; its caches are pairs of the model's and the grammar's state."""

    step: Step
    reorder: Reorder
    grow: Grow


def hold_to(grammar: Grammar, step: Step, reorder: Reorder, grow: Grow) -> Held:
    """Returns the step function and its companions under which illegal tokens cannot follow.

    The probabilities of legal tokens are those among each other (their sum is 1). A hypothesis that
    nothing can follow dies, and so does one that meets the limit before EOS is legal: a sentence
    may end with no hypothesis.
    """

    def held_step(token_BM: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        inner, state = cache
        state = grammar.advance(state, token_BM)
        logits_BMW, inner = step(token_BM, inner)
        legal_BMW = grammar.legal(state)
        padded = logits_BMW.shape[-1] - legal_BMW.shape[-1]
        legal_BMW = jnp.pad(legal_BMW, ((0, 0), (0, 0), (0, padded)))
        return jnp.where(legal_BMW, logits_BMW, _ILLEGAL), (inner, state)

    def held_reorder(cache: Any, beam_BM: jax.Array) -> Any:
        inner, state = cache

        def take(leaf: jax.Array) -> jax.Array:
            return jax.vmap(lambda of_sentence, beam_M: of_sentence[beam_M])(leaf, beam_BM)

        return reorder(inner, beam_BM), jax.tree.map(take, state)

    def held_grow(cache: Any, length: int) -> Any:
        inner, state = cache
        return grow(inner, length), state

    return Held(held_step, held_reorder, held_grow)
