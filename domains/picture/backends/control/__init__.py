"""Control pictures out of ordinary ones: numpy and Pillow, no weights."""
