"""Configurations from what is stored: what the shapes of a network's tensors tell of it.

The rest is what models of a class usually have. Names are those of folders, see
`NetworkPlan.tensors`; a configuration is checked against its class like one from a file.
"""
