"""The paper's base model on WMT14 English-German: every setting there is, with its default.

Command:   jaxformer train --config=configs/wmt14_en_de.py --workdir=runs/base
Hardware:  eight P100 in the paper, 0.4 seconds a step; not run by this project.
Time:      12 hours in the paper.
Expected:  27.3 BLEU on newstest2014 (Table 2; tokenised, compounds split).

The other files of this folder are changes to this one. Sections and equations are those of
"Attention Is All You Need" (arXiv 1706.03762v7).
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings, locked: a name that does not exist is an error.

    Raises: ValueError if there is an argument.
    """
    if arg:
        raise ValueError(f"configs/base.py takes no argument, got {arg!r}. Leave it out.")
    config = ConfigDict()

    model = config.model = ConfigDict()
    # Width of embeddings and of every sub-layer's output (3.1).
    model.d_model = 512
    # Inner width of the feed-forward sub-layers (3.3).
    model.d_ff = 2048
    # Attention heads, h (3.2.2).
    model.num_heads = 8
    # Width of a head's queries and keys (3.2.2); 0: d_model / num_heads, here 64.
    model.d_k = 0
    # Width of a head's values (3.2.2); 0: d_model / num_heads.
    model.d_v = 0
    # Layers, N, of either stack (3.1).
    model.num_encoder_layers = 6
    model.num_decoder_layers = 6
    # "package.module:name" of the attention function (3.2.1, Eq. 1); on a GPU, with bfloat16,
    # jaxformer.model:fused_attention is one kernel (docs/gpu.md), and on TPUs
    # jaxformer.model:splash_attention is (docs/preflight.md).
    model.attention = "jaxformer.model.attention:dot_product_attention"
    # In self-attention a token sees those fewer than so many positions away (section 4, where r is
    # 2 * this - 1); 0: all, as in the paper's models. The attention function
    # jaxformer.model:restricted_attention also saves the time and memory of what is not seen.
    model.attention_window = 0
    # Where the layer norm stands: post_norm as in 3.1, or pre_norm beside it.
    model.residual = "jaxformer.model.residual:post_norm"
    # What is added to the embeddings (3.5): Sinusoidal, Learned (row E of Table 3), NoPositions.
    model.positions = "jaxformer.model.positions:Sinusoidal"
    # Of the feed-forward sub-layers (Eq. 2: max(0, x)).
    model.activation = "jax.nn:relu"
    # Whether the four projections of attention have biases; the paper's have none (3.2.2).
    model.attention_bias = False
    # Added to the variance in layer norms; the paper gives no value.
    model.norm_epsilon = 1e-6
    # Most tokens of a sentence that learned positions know (3.5), at least data.max_length; an
    # output's tokens past it take its last one. Sinusoids know any number.
    model.max_length = 1024
    # The shared matrix (3.4) is filled up to a multiple of this many rows; 1: not at all. Beam
    # search is slow where no number from 8 to 64 divides the rows, as with a prime vocabulary.
    model.vocab_multiple = 1
    # Of products and activations: float32 or bfloat16; parameters and sums are float32.
    model.dtype = "float32"
    # Of the operands of products with parameters: bfloat16 is meant for CPUs that have units for
    # it (AMX, AVX-512 BF16). float32 is the plain product with a gradient of our own, which may
    # be faster on a CPU (docs/speed.md), for reverse mode only. Empty: as dtype.
    model.product_dtype = ""
    # What the backward pass computes again, layer by layer, for less memory: "none"; "dots", all
    # but the projections; "full", whole layers (docs/remat.md). The result is the same.
    model.remat = "none"
    # Whether a loop runs the layers of a stack: compiles faster, may run slower, and on a CPU remat
    # asks for it; the same result, and the same checkpoints.
    model.scan_layers = False

    optimizer = config.optimizer = ConfigDict()
    # "package.module:name" of (step, *, d_model, warmup_steps, num_steps) -> rate (5.3, Eq. 3).
    optimizer.schedule = "jaxformer.optim:noam_rate"
    # What the schedule's rate is multiplied by; 1 in the paper (5.3).
    optimizer.learning_rate = 1.0
    # Steps during which the rate grows (5.3).
    optimizer.warmup_steps = 4000
    # Adam's constants (5.3).
    optimizer.beta1 = 0.9
    optimizer.beta2 = 0.98
    optimizer.epsilon = 1e-9
    # Gradients of a larger global norm are scaled down to it; 0: never, as in the paper.
    optimizer.clip_norm = 0.0
    # Each update takes this times the rate off every parameter (AdamW); 0: none, as in the paper.
    optimizer.weight_decay = 0.0

    data = config.data = ConfigDict()
    # bible, multi30k, plain_text, treebank, wmt14, or "package.module:Class" of a TFDS builder
    # (5.1).
    data.corpus = "wmt14"
    # Language codes; for a TFDS builder the names of its text columns.
    data.source = "en"
    data.target = "de"
    # Folder of prepared data; "": the user's cache folder.
    data.data_dir = ""
    # Folder of raw files that were fetched by hand; "": none.
    data.manual_dir = ""
    # Line-aligned UTF-8 files, gzip or not, of the corpus plain_text; "": not there. The targets
    # alone may name files of bracketed trees for the corpus treebank; "": CRAFT's.
    data.train_source = ""
    data.train_target = ""
    data.valid_source = ""
    data.valid_target = ""
    data.test_source = ""
    data.test_target = ""
    # Word pieces shared by source and target, special ones and 256 bytes included (5.1), learnt
    # from all training pairs, or of more than a million from every n-th; for moses_bpe the merges
    # that they come from, and for brackets those of the source alone, both of all pairs.
    data.vocab_size = 37_000
    # SentencePiece's bpe (5.1), unigram, word or char, of text as it is; or moses_bpe, merges of
    # Moses's tokens in small letters, for comparison with published results; or brackets, bpe of
    # the source and a token for each symbol of linear trees, for the corpus treebank.
    data.vocab_type = "bpe"
    # Probability that a merge is passed over where training text is spelt (BPE-dropout, for bpe and
    # moses_bpe), and how many spellings of all of it there are: an epoch reads them all. Other text
    # is spelt as ever. The paper: none.
    data.bpe_dropout = 0.0
    data.spellings = 1
    # Tokens; training pairs with a longer side are counted, reported and left out, and longer
    # sentences are translated in pieces.
    data.max_length = 256
    # Slots of a batch on either side, at most: "approximately 25000" tokens (5.1).
    data.source_tokens = 25_000
    data.target_tokens = 25_000

    train = config.train = ConfigDict()
    # Updates (5.2).
    train.num_steps = 100_000
    # P_drop, in [0, 1) (5.4).
    train.dropout_rate = 0.1
    # epsilon_ls, in [0, 1) (5.4).
    train.label_smoothing = 0.1
    # Parts in which a batch is worked off one after another, for less memory; 1: whole.
    train.accumulate = 1
    # Of initial parameters, dropout and the order of the data.
    train.seed = 0
    # At a loss or gradient that is NaN or infinite: "stop", or "skip" that update.
    train.not_finite = "stop"
    # Steps between lines of metrics.jsonl; 0: never.
    train.log_every = 100
    # Steps between evaluations on the validation split; 0: never.
    train.eval_every = 1500
    # So many evaluations in a row without a new best likelihood end the training; 0: none do.
    train.patience = 0
    # Steps between checkpoints, ten minutes in the paper (6.1); 0: only at the end.
    train.checkpoint_every = 1500
    # The newest so many checkpoints are kept, at least decode.average, and beside them the best of
    # those saved at an evaluation.
    train.keep_checkpoints = 5

    decode = config.decode = ConfigDict()
    # Hypotheses of the beam search (6.1); 1: greedy search.
    decode.num_beams = 4
    # "package.module:name" of the length penalty (6.1), which log probabilities are divided by:
    # gnmt_penalty, ((5 + length) / 6)^alpha, or length_normalisation beside it, length^alpha.
    decode.length_penalty = "jaxformer.decode.penalty:gnmt_penalty"
    # Its exponent (6.1); 0: none.
    decode.alpha = 0.6
    # An output has at most so many tokens more than its input (6.1).
    decode.extra_length = 50
    # The newest so many checkpoints are averaged (6.1).
    decode.average = 5
    # "newest", or "best" for that one checkpoint, which needs average = 1.
    decode.checkpoint = "newest"
    # Source slots of a batch of sentences that are translated together.
    decode.batch_tokens = 4096

    parallel = config.parallel = ConfigDict()
    # Devices along each axis of the mesh (docs/sharding.md); -1, for one of them: what is left. The
    # result does not depend on them: rows of a batch are spread, parameters are copies;
    parallel.data = -1
    # rows are spread, and parameters and optimiser state are cut;
    parallel.fsdp = 1
    # heads, the inner width and the vocabulary are cut.
    parallel.tensor = 1

    return config.lock()
