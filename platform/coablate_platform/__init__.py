"""Coablate: ablation studies and searches that can be believed, on Ray.

The rooms, in the order in which a study flows: ``study`` declares, ``data`` feeds, ``run`` executes,
``results`` concludes. Imports point only back along this line; ``cli`` stands above them all.
"""
