"""A face restorer that is ready to run on a device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

EDGE = 512
"""Of the squares that restorers take, in pixels."""


@dataclass(frozen=True)
class Restorer:
    """A network that redraws aligned faces, on its device. It computes in float32: a face is
    one small picture, and the architectures leave the range of float16.

    Attributes:
        network: Takes and gives float32 `[1, 3, 512, 512]`, 0 to 1.
        architecture: What its kind is called ("GFPGAN").
        device: Where it is.
    """

    network: nn.Module
    architecture: str
    device: torch.device

    @property
    def weight_bytes(self) -> int:
        """What its weights take."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        return sum(tensor.nbytes for tensor in tensors)
