"""PROVES: suites of checks for what users add, which Coablate's own models, readers and studies pass too."""
