"""A corpus of model files: the true key names and shapes of real ones, without their numbers.

`parts.py` reads the tables of networks, which `derive.py` made from the classes of diffusers
and transformers; the other modules put parts together as files have them, each with its
source. `kinds.py` names every kind and what it must be recognised as.
"""
