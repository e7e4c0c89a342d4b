"""Shows: plans, progress and stores on a terminal."""
