"""Declares: what a study asks, with which arms and seeds, and what makes two runs the same run."""
