"""Reasons of the contract that nothing gives yet: what would give them is not built.

A test fails as soon as one of them is given, and when one that is not listed here is not.
"""

UNBUILT_REASONS: dict[str, str] = {}
