"""Declares studies and searches: arms, seeds, search spaces, configurations, and the identity of a run."""
