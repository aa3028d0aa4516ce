"""The loop around the pure step: training, evaluation, translation, and what a process needs."""
