"""Computes: one run, from its first step to its test. Imports no Ray and nothing of ``data``."""
