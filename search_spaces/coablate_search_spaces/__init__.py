"""The studies and searches that ship with Coablate, one per file; the files contain values only."""
