"""What a case should cost, by what it must compute and keep; constants of the machine left out."""

from experiments.benchmarks.figures import model_sizes, training_flops
from experiments.growth.cases import Case
from jaxformer.loss import CHUNK_TOKENS
from jaxformer.model.counting import forward_flops, parameter_count
from jaxformer.run.translation import cache_rooms

_FLOAT = 4


def operations(case: Case) -> float:
    """Returns the operations of the matrix products of a training step, or of a whole search."""
    size = case.size
    return _search_flops(case) if case.beams else size.tokens * training_flops(size)


def memory(case: Case) -> float:
    """Returns the bytes that a training step, or a search, must have at once.

    A training step: parameters, Adam's two moments and the gradient; what the backward pass needs
    of the forward one (inputs of the matrix products and norms, ReLU's output, weights of
    attention); logits of one chunk, and their gradient. A search: parameters, keys and values over
    source and output, and the logits of one position.
    """
    size = case.size
    parameters = parameter_count(**model_sizes(size))
    width, layers = size.d_model, size.layers
    if case.beams:
        kept = 2 * width * layers * size.rows * size.length * (case.beams + 1)
        logits = size.rows * case.beams * size.vocab_size
        return _FLOAT * (parameters + kept + logits)
    # Of a sub-layer: its input, and its norm's. Of attention: queries, keys, values, heads' output.
    attention = 2 * width + 4 * width + size.num_heads * size.length
    feed_forward = 2 * width + size.d_ff
    # An encoder layer has one attention, a decoder layer two.
    kept = size.tokens * layers * (3 * attention + 2 * feed_forward)
    logits = 2 * min(CHUNK_TOKENS, size.tokens) * size.vocab_size
    return _FLOAT * (4 * parameters + kept + logits)


def _search_flops(case: Case) -> float:
    """Returns the operations of a search whose outputs are as long as its inputs.

    The encoder runs once. A position's hypotheses each pass the decoder's layers and the logits;
    each attends over all places of the cache, those of every hypothesis, as many positions as it
    has room for (`jaxformer.run.translation.cache_rooms`).
    """
    size, beams = case.size, case.beams
    width, length = size.d_model, size.length
    encoder = forward_flops(
        vocab_size=size.vocab_size,
        d_model=width,
        d_ff=size.d_ff,
        num_heads=size.num_heads,
        d_k=width // size.num_heads,
        d_v=width // size.num_heads,
        num_encoder_layers=size.layers,
        num_decoder_layers=0,
        source_length=length,
        target_length=0,
    )
    memory_heads = size.layers * 2 * 2 * width * width * length
    # Four projections of self-attention, two of attention over the encoder's output.
    products = size.layers * (6 * 2 * width * width + 4 * width * size.d_ff)
    products += 2 * width * size.vocab_size
    over_source = size.layers * 4 * width * length
    # Greedy search has all its room at once.
    rooms = cache_rooms(length) if beams > 1 else (length,)
    over_past = [
        size.layers * 4 * width * beams * next(room for room in rooms if room > position)
        for position in range(length)
    ]
    decoder = beams * (length * (products + over_source) + sum(over_past))
    return size.rows * (encoder + memory_heads + decoder)
