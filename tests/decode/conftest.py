"""A language model small enough for exhaustive search, whose logits depend on the whole past."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxformer.model.tokens import BOS, EOS

STATES = 101


@dataclass(frozen=True)
class TableModel:
    """The past, BOS included, is folded into one of 101 states, each with its row of logits."""

    logits_QW: np.ndarray
    first_state_B: np.ndarray

    @classmethod
    def random(cls, seed: int, batch: int, vocab: int, eos_bonus: float = 1.0) -> "TableModel":
        rng = np.random.default_rng(seed)
        logits_QW = rng.normal(size=(STATES, vocab)).astype(np.float32) * 2
        logits_QW[:, EOS] += eos_bonus
        return cls(logits_QW, rng.integers(STATES, size=batch).astype(np.int32))

    @classmethod
    def constant(cls, logits_W, batch: int) -> "TableModel":
        """Every token is drawn alike."""
        logits_QW = np.tile(np.asarray(logits_W, np.float32), (STATES, 1))
        return cls(logits_QW, np.zeros(batch, np.int32))

    def only(self, rows) -> "TableModel":
        return TableModel(self.logits_QW, self.first_state_B[rows])

    # The table is part of the cache, so that one compiled program serves all models of a shape.
    def start(self, beams: int):
        state_BM = jnp.tile(jnp.asarray(self.first_state_B)[:, None], (1, beams))
        return jnp.asarray(self.logits_QW), state_BM

    @staticmethod
    def step(token_BM, cache):
        logits_QW, state_BM = cache
        state_BM = (state_BM * 31 + token_BM * 17 + 7) % STATES
        return logits_QW[state_BM], (logits_QW, state_BM)

    @staticmethod
    def reorder(cache, beam_BM):
        logits_QW, state_BM = cache
        return logits_QW, jnp.take_along_axis(state_BM, beam_BM, axis=1)

    def log_prob_W(self, row: int, tokens) -> np.ndarray:
        """What may follow `tokens`, in float64."""
        state = int(self.first_state_B[row])
        for token in (BOS, *tokens):
            state = (state * 31 + int(token) * 17 + 7) % STATES
        logits_W = self.logits_QW[state].astype(np.float64)
        return logits_W - np.log(np.sum(np.exp(logits_W)))

    def log_prob(self, row: int, tokens) -> float:
        return sum(self.log_prob_W(row, tokens[:t])[token] for t, token in enumerate(tokens))


@pytest.fixture(scope="session")
def table_model() -> type[TableModel]:
    return TableModel


@pytest.fixture(scope="session")
def found():
    """Hypotheses as, for each sentence, a list of (tokens as a tuple, score), and whole at that."""

    def read(hypotheses) -> list[list[tuple[tuple[int, ...], float]]]:
        token_BMT, score_BM, log_prob_BM, length_BM = map(
            np.asarray,
            (
                hypotheses.token_BMT,
                hypotheses.score_BM,
                hypotheses.log_prob_BM,
                hypotheses.length_BM,
            ),
        )
        assert [x.dtype for x in (token_BMT, score_BM, log_prob_BM, length_BM)] == [
            np.int32,
            np.float32,
            np.float32,
            np.int32,
        ]
        sentences = []
        for row in range(len(token_BMT)):
            sentence = []
            for m, length in enumerate(length_BM[row]):
                tokens, rest = token_BMT[row, m, :length], token_BMT[row, m, length:]
                assert not rest.any()
                if length == 0:
                    assert score_BM[row, m] == log_prob_BM[row, m] == -np.inf
                    continue
                assert m == len(sentence), "an empty place before a hypothesis"
                assert tokens[-1] == EOS
                assert EOS not in tokens[:-1]
                sentence.append((tuple(tokens.tolist()), float(score_BM[row, m])))
            sentences.append(sentence)
        return sentences

    return read


@pytest.fixture(scope="session")
def same():
    """Whether all arrays of two results are equal to the last bit."""

    def are_same(one, other) -> bool:
        return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))

    return are_same
