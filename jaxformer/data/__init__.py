"""Text in, batches out: corpora (TFDS builders), the tokenizer, length plan and batches."""
