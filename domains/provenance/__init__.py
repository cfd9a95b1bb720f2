"""Provenance: marks by which others can tell where a picture comes from, and reading them."""
