"""Computes one run, from its initial parameters to its test. Imports neither Ray nor ``data``."""
