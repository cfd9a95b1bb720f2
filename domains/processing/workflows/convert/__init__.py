"""Workflows between proto and domain values, and values into the messages of steps."""
