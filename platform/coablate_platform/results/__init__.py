"""Concludes: statistics, tables, figures and reports, computed from the journal."""
