"""Parameters of a model in closed form: the last column of Table 3."""


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
