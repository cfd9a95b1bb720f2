"""Chains in a device's worker: the only part of the domain with torch, numpy and Pillow."""
