"""A torch for CUDA with two cards, the driver's first in the later slot and too old."""

from __future__ import annotations


class version:
    cuda = "12.8"
    hip = None


__version__ = "9.9.0+cu128"


class _Properties:
    def __init__(self, name: str, bus: int, uuid: str) -> None:
        self.name = name
        self.total_memory = 8 << 30
        self.pci_domain_id = 0
        self.pci_bus_id = bus
        self.pci_device_id = 0
        self.uuid = uuid


class cuda:
    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 2

    @staticmethod
    def get_device_properties(index: int) -> _Properties:
        if index == 0:
            return _Properties("Old card", 0x3B, "aaaa")
        return _Properties("New card", 0x1A, "bbbb")


class _Sixteen:
    def __add__(self, other: float) -> _Sixteen:
        return self

    def sum(self) -> _Sixteen:
        return self

    def item(self) -> float:
        return 16.0


def ones(count: int, device: str) -> _Sixteen:
    if device == "cuda:0":
        raise RuntimeError("CUDA error: no kernel image is available for execution")
    return _Sixteen()
