"""From the names that diffusers gives tensors to the names in the files that people download.

Each module is one table and the function that applies it. Only names change, except where the
original keeps the same numbers in another shape: attention of the VAE (1x1 convolutions) and
OpenCLIP's fused projections.
"""
