"""Remembers: the records of runs and trials, in Arrow files."""
