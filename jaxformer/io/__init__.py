"""What a run writes down and reads back: checkpoints, records, scores and plots."""
