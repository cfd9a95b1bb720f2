"""Errors of memory: reading it has none of its own, a device that is not there is device's."""
