"""Histories of what clients saw while processes were killed, and what must hold of them."""
