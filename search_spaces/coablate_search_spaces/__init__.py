"""The studies that ship with Coablate: values only, a study a file."""
