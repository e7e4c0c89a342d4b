"""Chooses: what a search tries next, and which trials it stops."""
