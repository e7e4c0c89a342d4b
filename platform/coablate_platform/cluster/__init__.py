"""Reaches: starts Ray clusters with Ray's launcher, and runs studies on them as Ray jobs."""
