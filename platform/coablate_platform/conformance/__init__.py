"""Proves: suites of checks for what users bring, which Coablate's own parts run through too."""
