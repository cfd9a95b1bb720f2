"""Postprocessing: what can be done to finished pictures.

Postprocessing owns the chain of steps and the safety policies; it refuses to put another
postprocessor in the place of one that is missing.
"""
