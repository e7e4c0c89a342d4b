"""Executes: the training loop, checkpoints, lanes, and the Tune side of a study."""
