"""Decoding over any step function (section 6.1): beam search, greedy search, sampling.

Each is one compiled loop without Python per token, made of static shapes, to be called under
`jax.jit` or within another program. Suffixes are those of `jaxformer.model`; a step's candidates
have the axis C.
"""

from jaxformer.decode.hypotheses import Hypotheses, Reorder, Step
from jaxformer.decode.sampling import greedy, sample
from jaxformer.decode.search import beam_search

__all__ = ["Hypotheses", "Reorder", "Step", "beam_search", "greedy", "sample"]
