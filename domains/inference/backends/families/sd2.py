"""SD 2.x: its text encoder is another than that of SD 1.x, and is used in the same way."""

from domains.inference.backends.families.sd1 import encode_text

__all__ = ["encode_text"]
