"""Devices: which adapters this machine has, what they are called, which one is the default.

Device owns discovery and names; it refuses to guess: a kind without a device says why, and
a device that was asked for is never replaced by another one. Memory by owner, queues and
sessions belong to other domains.
"""
