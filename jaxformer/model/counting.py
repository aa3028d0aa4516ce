"""A model's parameters, operations and traffic in closed form: last columns of Tables 3 and 2."""


def parameter_count(
    *,
    vocab_size: int,
    d_model: int,
    d_ff: int,
    num_heads: int,
    d_k: int,
    d_v: int,
    num_encoder_layers: int,
    num_decoder_layers: int,
    attention_bias: bool = False,
    final_norm: bool = False,
    learned_positions: int = 0,
) -> int:
    """Returns the number of parameters, rows that pad the vocabulary not counted.

    Args:
      final_norm: whether each stack ends in a norm of its own, as with pre-norm.
      learned_positions: rows of each of the two tables of learned positions; 0 for sinusoids.
    """
    attention = d_model * num_heads * (2 * d_k + d_v) + num_heads * d_v * d_model
    if attention_bias:
        attention += num_heads * (2 * d_k + d_v) + d_model
    feed_forward = 2 * d_model * d_ff + d_ff + d_model
    norm = 2 * d_model
    encoder = num_encoder_layers * (attention + feed_forward + 2 * norm)
    decoder = num_decoder_layers * (2 * attention + feed_forward + 3 * norm)
    ends = 2 * norm if final_norm else 0
    return (vocab_size + 2 * learned_positions) * d_model + encoder + decoder + ends


def forward_flops(
    *,
    vocab_size: int,
    d_model: int,
    d_ff: int,
    num_heads: int,
    d_k: int,
    d_v: int,
    num_encoder_layers: int,
    num_decoder_layers: int,
    source_length: int,
    target_length: int,
) -> int:
    """Returns the floating-point operations of one sentence pair's way through the model.

    Those of the matrix products alone, a multiplication and an addition each counted: projections,
    Eq. 1, Eq. 2 and the logits. Scores are those of all pairs, masked or out of a window or not, as
    `dot_product_attention` computes them. The backward pass has two products for each of these, so
    that a training step takes three times as many.

    Args:
      source_length, target_length: tokens.
    """

    def attention(queries: int, keys: int) -> int:
        projections = d_model * (queries * (d_k + d_v) + keys * (d_k + d_v))
        return 2 * num_heads * (projections + queries * keys * (d_k + d_v))

    def feed_forward(tokens: int) -> int:
        return 4 * d_model * d_ff * tokens

    source, target = source_length, target_length
    encoder_layer = attention(source, source) + feed_forward(source)
    decoder_layer = attention(target, target) + attention(target, source) + feed_forward(target)
    logits = 2 * d_model * vocab_size * target
    return num_encoder_layers * encoder_layer + num_decoder_layers * decoder_layer + logits


def kept_activations(
    *,
    d_model: int,
    d_ff: int,
    num_heads: int,
    d_k: int,
    d_v: int,
    num_encoder_layers: int,
    num_decoder_layers: int,
    source_length: int,
    target_length: int,
) -> int:
    """Returns how many numbers the backward pass needs of one sentence pair's forward pass.

    The operands of all matrix products but parameters, each once: what goes into the projections of
    a sub-layer; queries, keys and values; the heads' outputs; ReLU's output; the encoder's output,
    and the decoder's. All else can be had from these without a product, or from counters: norms,
    dropout, and the weights of attention, which a kernel makes again.

    Args:
      source_length, target_length: tokens.
    """
    read = num_heads * (d_k + d_v)
    project = num_heads * (d_k + d_v)
    feed_forward = d_model + d_ff
    encoder = d_model + read + project + feed_forward
    # Of attention over the encoder's output, keys and values are the source's.
    decoder = 2 * (d_model + read) + project + feed_forward
    source = num_encoder_layers * encoder + num_decoder_layers * project + d_model
    return source_length * source + target_length * (num_decoder_layers * decoder + d_model)


def least_step_bytes(parameters: int, kept: int, size: int = 4) -> int:
    """Returns the bytes that a training step with Adam must read and write at the least.

    size * (10 parameters + 2 kept). A parameter is read forwards, backwards and by the update, and
    written; its gradient is written and read; its two moments are read and written. What is kept is
    written once and read once. Everything else would stay within the processor, gradients of
    activations too: no program for a model of more than a few layers comes near it.

    Args:
      parameters: how many the device updates.
      kept: see `kept_activations`; of all pairs on the device.
      size: bytes of a number.
    """
    return size * (10 * parameters + 2 * kept)
