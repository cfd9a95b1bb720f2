"""The six domains of device-operations, their shared error kinds and their limits."""
