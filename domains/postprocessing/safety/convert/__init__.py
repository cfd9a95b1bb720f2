"""Safety between proto and domain values."""
