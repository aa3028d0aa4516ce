"""The grammar of linear trees: brackets that match, and one tag for each word of the input."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

_OTHER, _OPENS, _CLOSES, _TAG = range(4)


class TreeState(struct.PyTreeNode):
    """How far each hypothesis is; D is the deepest that phrases may lie in each other.

    Attributes:
      depth_BM: phrases that are open.
      label_BMD: their labels' numbers, the outermost first.
      words_BM: words of the input that have no tag yet.
      is_empty_BM: whether the innermost phrase holds nothing yet.
      is_begun_BM: whether there is a symbol.
    """

    depth_BM: jax.Array
    label_BMD: jax.Array
    words_BM: jax.Array
    is_empty_BM: jax.Array
    is_begun_BM: jax.Array


class TreeGrammar:
    """Only sequences that `jaxformer.trees.linear.delinearise` accepts.

    Trees deeper than `max_depth` are left out. W is the number of symbols that are given.
    """

    def __init__(
        self, symbols: Sequence[str], starts_word: Sequence[bool], eos: int, max_depth: int = 64
    ) -> None:
        """Makes the tables.

        Args:
          symbols: of every token id: "(NP" opens a phrase, ")NP" closes one, "NN" is a tag; "" for
            what is no symbol.
          starts_word: of every token id, whether a word of the input begins with it.
          eos: the id that ends an output.
          max_depth: D.
        """
        labels: dict[str, int] = {}
        kinds = {"(": _OPENS, ")": _CLOSES}
        self._kind_W = np.array(
            [kinds.get(symbol[:1], _TAG if symbol else _OTHER) for symbol in symbols], np.int8
        )
        self._label_W = np.array(
            [labels.setdefault(symbol[1:], len(labels)) for symbol in symbols], np.int32
        )
        self._starts_word_W = np.array(starts_word, bool)
        self._is_eos_W = np.arange(len(symbols)) == eos
        self._max_depth = max_depth

    def start(self, source_BS: jax.Array, num_beams: int) -> TreeState:
        """Returns the state before the first symbol; words are counted in source_BS, int32 ids."""
        words_B = jnp.sum(jnp.asarray(self._starts_word_W)[source_BS], axis=1, dtype=jnp.int32)
        zero_BM = jnp.zeros((len(source_BS), num_beams), jnp.int32)
        return TreeState(
            depth_BM=zero_BM,
            label_BMD=jnp.zeros((*zero_BM.shape, self._max_depth), jnp.int32),
            words_BM=zero_BM + words_B[:, None],
            is_empty_BM=zero_BM > 0,
            is_begun_BM=zero_BM > 0,
        )

    def advance(self, state: TreeState, token_BM: jax.Array) -> TreeState:
        """Returns the state after token_BM, int32 ids."""
        kind_BM = jnp.asarray(self._kind_W)[token_BM]
        opens_BM, closes_BM, is_tag_BM = (kind_BM == kind for kind in (_OPENS, _CLOSES, _TAG))
        is_place_BMD = jnp.arange(self._max_depth) == state.depth_BM[..., None]
        label_BM1 = jnp.asarray(self._label_W)[token_BM][..., None]
        return TreeState(
            depth_BM=state.depth_BM + opens_BM - closes_BM,
            label_BMD=jnp.where(opens_BM[..., None] & is_place_BMD, label_BM1, state.label_BMD),
            words_BM=state.words_BM - is_tag_BM,
            is_empty_BM=jnp.where(kind_BM == _OTHER, state.is_empty_BM, opens_BM),
            is_begun_BM=state.is_begun_BM | opens_BM,
        )

    def legal(self, state: TreeState) -> jax.Array:
        """Returns legal_BMW, True where that token may follow.

        A phrase opens while words are left for it to hold, within another one but for the first.
        One closes by its own label and if it holds something; the outermost has to hold all words.
        """
        is_open_BM, has_words_BM = state.depth_BM > 0, state.words_BM > 0
        may_open_BM = (
            has_words_BM & (state.depth_BM < self._max_depth) & (is_open_BM | ~state.is_begun_BM)
        )
        may_close_BM = is_open_BM & ~state.is_empty_BM & ((state.depth_BM > 1) | ~has_words_BM)
        innermost_BM1 = jnp.maximum(state.depth_BM - 1, 0)[..., None]
        label_BM1 = jnp.take_along_axis(state.label_BMD, innermost_BM1, axis=-1)
        return (
            (may_open_BM[..., None] & (self._kind_W == _OPENS))
            | ((is_open_BM & has_words_BM)[..., None] & (self._kind_W == _TAG))
            | (may_close_BM[..., None] & (self._kind_W == _CLOSES) & (self._label_W == label_BM1))
            | ((state.is_begun_BM & ~is_open_BM)[..., None] & self._is_eos_W)
        )
