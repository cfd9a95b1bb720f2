"""A torch for ROCm whose driver is missing."""

from __future__ import annotations


class version:
    cuda = None
    hip = "7.14"


__version__ = "9.9.0+rocm7.14"


class cuda:
    @staticmethod
    def is_available() -> bool:
        return False

    @staticmethod
    def init() -> None:
        raise RuntimeError("No HIP GPUs are available. Install one.")
