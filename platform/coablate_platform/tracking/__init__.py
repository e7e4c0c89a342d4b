"""Shows: studies and searches in MLflow."""
