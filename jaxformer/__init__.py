"""The Transformer of "Attention Is All You Need", for research in JAX and Flax."""
