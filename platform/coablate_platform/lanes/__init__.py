"""Executes: runs on Ray Tune and Ray Train."""
