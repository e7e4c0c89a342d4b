"""Read data sets: formats, protocols, the prepared store, sampling and augmentation."""
