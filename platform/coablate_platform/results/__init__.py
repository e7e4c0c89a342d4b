"""Concludes: the journal, statistics, tables, and tracking in MLflow."""
