"""The four special token ids that every vocabulary here begins with."""

PAD, BOS, EOS, UNK = 0, 1, 2, 3
