"""Feeds: formats, protocols, the prepared store, sampling and augmentation."""
