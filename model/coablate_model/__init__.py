"""Networks for action recognition from video and skeleton, in plain torch."""
