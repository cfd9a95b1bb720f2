"""A torch built for the processor alone: enough to be asked for devices."""

from __future__ import annotations


class version:
    cuda = None
    hip = None


__version__ = "9.9.0"


class Tensor:
    def __init__(self, values: list[float]) -> None:
        self.values = values

    def to(self, device: object) -> Tensor:
        take = getattr(device, "take", None)  # drivers that do something about it
        return take(self) if take else self

    def cpu(self) -> Tensor:
        return self

    def __add__(self, other: float) -> Tensor:
        return Tensor([value + other for value in self.values])

    def sum(self) -> Tensor:
        return Tensor([sum(self.values)])

    def item(self) -> float:
        return self.values[0]


def ones(count: int, device: object = "cpu") -> Tensor:
    return Tensor([1.0] * count)
