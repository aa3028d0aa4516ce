"""Translating lines of text: any number of them, of any length, in order."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxformer.data.pipeline import source_batches
from jaxformer.data.tokenizer import Tokenizer
from jaxformer.decode import (
    Grammar,
    LengthPenalty,
    beam_search,
    gnmt_penalty,
    greedy,
    hold_to,
)
from jaxformer.model import EOS, PAD, Transformer, grow, reorder
from jaxformer.sharding import fetch, make_layout, num_shares, place_batch
from jaxformer.train import Params

Translate = Callable[[Params, Sequence[str]], list[str]]

_FIRST_ROOM = 64
_SENTENCE_ENDS = (".", "!", "?", ";", ":", "\u3002", "\uff01", "\uff1f")


def make_decode(
    model: Transformer,
    *,
    num_beams: int,
    alpha: float,
    extra_length: int,
    length_penalty: LengthPenalty = gnmt_penalty,
    grammar: Grammar | None = None,
) -> Callable[[Params, jax.Array | np.ndarray], jax.Array]:
    """Returns decode(params, source_BS) -> token_BT, the best output of each row (6.1).

    A row of PAD only gives PAD only. Compiled once a shape.

    Args:
      num_beams: of the beam search; 1 for greedy search.
      alpha: exponent of the length penalty.
      extra_length: an output has at most so many tokens more than its input.
      length_penalty: as for `beam_search`.
      grammar: outputs are held to it; None for a free search.
    """

    @jax.jit
    def decode(params: Params, source_BS: jax.Array | np.ndarray) -> jax.Array:
        variables = {"params": params}
        length_B = jnp.sum(source_BS != PAD, axis=1)
        # Neither the input's EOS nor the output's counts.
        limit_B = jnp.where(length_B > 0, length_B - 1 + extra_length, -1)
        max_length = source_BS.shape[1] + extra_length
        rooms = (max_length,) if num_beams == 1 else cache_rooms(max_length)
        memory_BSD = model.apply(variables, source_BS, method=Transformer.encode)
        cache = model.apply(
            variables, memory_BSD, source_BS, num_beams, rooms[0], method=Transformer.start_cache
        )

        def free_step(token_BM: jax.Array, cache: object):
            return model.apply(variables, token_BM, cache, method=Transformer.decode_step)

        search = free_step, reorder, grow
        if grammar is not None:
            search = hold_to(grammar, *search)
            cache = cache, grammar.start(jnp.asarray(source_BS), num_beams)
        step, reorder_all, grow_all = search
        if num_beams == 1:
            found = greedy(step, cache, limit_B, max_length=max_length)
        else:
            found = beam_search(
                step,
                reorder_all,
                cache,
                limit_B,
                num_beams=num_beams,
                max_length=max_length,
                alpha=alpha,
                length_penalty=length_penalty,
                num_best=1,
                grow=grow_all,
                rooms=rooms,
            )
        return found.token_BMT[:, 0]

    return decode


def cache_rooms(max_length: int) -> tuple[int, ...]:
    """Returns how many positions a cache is to have room for, first and later: 64, 128, ...

    Outputs are much shorter than they may be as a rule, and every step's attention costs as much as
    there is room, for all hypotheses together; each room is another program to compile.
    """
    rooms = []
    room = _FIRST_ROOM
    while 2 * room <= max_length:
        rooms.append(room)
        room *= 2
    return (*rooms, max_length)


def make_translate(
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    num_beams: int,
    alpha: float,
    extra_length: int,
    longest: int,
    batch_tokens: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    mesh: Mesh | None = None,
    length_penalty: LengthPenalty = gnmt_penalty,
    grammar: Grammar | None = None,
) -> Translate:
    """Returns translate(params, lines) -> one line for each line, in order.

    A blank line stays blank. A line of more than `longest` tokens is translated in pieces, cut
    where a sentence ends or at least a word. What a translation has of line breaks becomes spaces.

    Args:
      num_beams, alpha, extra_length, length_penalty, grammar: as for `make_decode`. Each piece of a
        line that is cut is an output of its own to the grammar.
      longest: tokens of a piece, EOS included, such as the most that the model was trained on.
        Learned positions must be as many; an output's positions past them take the last one.
      batch_tokens: source slots of a batch.
      report: called after each batch with the number of pieces done, and of all.
      mesh: the sentences of a batch are spread over its devices, of which each has a copy of the
        parameters; None for one device.
    """
    if mesh:
        model = model.clone(layout=make_layout(mesh))
    decode = make_decode(
        model,
        num_beams=num_beams,
        alpha=alpha,
        extra_length=extra_length,
        length_penalty=length_penalty,
        grammar=grammar,
    )

    def translate(params: Params, lines: Sequence[str]) -> list[str]:
        texts = [line for line in lines if line.strip()]
        pieces: list[np.ndarray] = []
        owners: list[int] = []
        for number, tokens in enumerate(tokenizer.encode(texts)):
            for piece in cut(tokens, longest, tokenizer):
                pieces.append(piece)
                owners.append(number)
        outputs = [""] * len(pieces)
        done = 0
        for batch in source_batches(pieces, batch_tokens, num_shares(mesh) if mesh else 1):
            source_BS = batch.source_BS
            if mesh:
                source_BS = place_batch({"source_BS": source_BS}, mesh)["source_BS"]
            token_BT = fetch(decode(params, source_BS))
            for row, index in enumerate(batch.indices.tolist()):
                outputs[index] = " ".join(tokenizer.decode(token_BT[row]).splitlines())
            done += len(batch.indices)
            report(done, len(pieces))
        translations = [[] for _ in texts]
        for owner, output in zip(owners, outputs, strict=True):
            translations[owner].append(output)
        joined = iter([" ".join(parts) for parts in translations])
        return [next(joined) if line.strip() else "" for line in lines]

    return translate


def translate_stream(
    translate: Translate, params: Params, lines: Iterable[str], lines_at_once: int
) -> Iterator[list[str]]:
    """Yields the translations of so many lines at once, so that memory is bounded."""
    lines = iter(lines)
    while some := list(itertools.islice(lines, lines_at_once)):
        yield translate(params, some)


def cut(tokens: np.ndarray, limit: int, tokenizer: Tokenizer) -> list[np.ndarray]:
    """Cuts a sentence into pieces of at most `limit` tokens, each ending in EOS.

    A piece ends after the last end of a sentence in its second half, else before the last word that
    begins there, else where it is full.
    """
    if limit < 2:
        raise ValueError(
            f"Pieces of {limit} tokens hold EOS alone. Set data.max_length to 2 or more."
        )
    if len(tokens) <= limit:
        return [tokens]
    tokens, room = tokens[:-1], limit - 1
    names, starts_word = tokenizer.pieces(tokens), tokenizer.starts_word(tokens)
    pieces = []
    start = 0
    while start < len(tokens):
        end = min(start + room, len(tokens))
        if end < len(tokens):
            inner = range(end, start + room // 2, -1)
            words = [place for place in inner if starts_word[place]]
            ends = [place for place in words if names[place - 1].endswith(_SENTENCE_ENDS)]
            end = next(iter(ends or words), end)
        pieces.append(np.append(tokens[start:end], np.int32(EOS)))
        start = end
    return pieces
