"""Networks for action recognition from video and skeletons, in plain PyTorch."""
