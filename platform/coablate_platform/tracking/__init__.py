"""Shows: studies in MLflow."""
