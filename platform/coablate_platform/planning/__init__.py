"""Resolves studies and searches against a store: protocol, identities of the runs, checks and costs."""
