"""Decoding over any step function (section 6.1): beam search, greedy search, sampling.

`hold_to` makes a step function under which only what a grammar allows can follow.

Each is one compiled loop without Python per token, made of static shapes, to be called under
`jax.jit` or within another program. Suffixes are those of `jaxformer.model`; a step's candidates
have the axis C.
"""

from jaxformer.decode.grammar import Grammar, hold_to
from jaxformer.decode.hypotheses import Hypotheses, Reorder, Step
from jaxformer.decode.penalty import LengthPenalty, gnmt_penalty, length_normalisation
from jaxformer.decode.sampling import greedy, sample
from jaxformer.decode.search import beam_search
from jaxformer.decode.tree_grammar import TreeGrammar

__all__ = [
    "Grammar",
    "Hypotheses",
    "LengthPenalty",
    "Reorder",
    "Step",
    "TreeGrammar",
    "beam_search",
    "gnmt_penalty",
    "greedy",
    "hold_to",
    "length_normalisation",
    "sample",
]
