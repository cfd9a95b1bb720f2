"""Errors of postprocessing: listing has none of its own."""
