"""tfds builders, apart from what reads them: they import tfds."""
