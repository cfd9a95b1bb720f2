"""Where the libraries of DirectML's workers are called otherwise than those of all others."""

from __future__ import annotations

from importlib.metadata import version

OLD_DIFFUSERS = tuple(map(int, version("diffusers").split(".")[:2])) < (0, 42)
"""Whether this is the environment that `tools/directml_set.py` makes."""
DTYPE = "torch_dtype" if OLD_DIFFUSERS else "dtype"
"""What `from_pretrained` of a diffusers class takes a data type as."""
