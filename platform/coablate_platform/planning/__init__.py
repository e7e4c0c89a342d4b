"""Resolves: a study against a store, with the cost of each arm."""
