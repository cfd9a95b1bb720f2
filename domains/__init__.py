"""The seven domains of device-operations, their shared error kinds and their limits."""
