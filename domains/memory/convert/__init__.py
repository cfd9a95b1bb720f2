"""Memory between proto and domain values."""
