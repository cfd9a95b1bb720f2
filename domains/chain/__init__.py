"""Chains: the steps that finish a picture, one after another.

A chain belongs to whoever made the picture: a generation has one for what it draws,
postprocessing for pictures that come with a request. Both ask for it in the same words and
the same code does it in a device's worker.
"""
