"""Decomposition & Composition: one encoder for the joints, bones and motion of a skeleton, trained without labels."""
