"""What differs between model families: one module per family, listed in `registry`."""
