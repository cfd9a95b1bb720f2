"""Artifacts: bytes that are kept, addressed by the SHA-256 of their content.

Artifact owns what is kept, for how long and within which quota; it does not interpret the
bytes and knows no work. Sessions stand on it: their finished pictures are artifacts.
"""
