"""Artifacts: bytes on disk, addressed by the SHA-256 of their content."""
