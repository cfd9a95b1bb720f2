"""An upscaler that is ready to run on a device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Upscaler:
    """A network that enlarges pictures, on its device.

    Attributes:
        network: Takes and gives `[batch, channels, height, width]`, 0 to 1.
        architecture: What its kind is called ("RRDB").
        factor: Enlargement of an edge in one pass.
        channels: 3 for colours; 1 for grey, and then it runs on each colour apart.
        unit: Edges of what it takes are multiples of this.
        numbers_per_pixel: How many numbers it keeps at once for a pixel that it takes.
        device: Where it is.
        data_type: In which it computes; float32 from the first time on that another gave
            numbers that are not finite.
        channels_last: Whether channels lie innermost.
    """

    network: nn.Module
    architecture: str
    factor: int
    channels: int
    unit: int
    numbers_per_pixel: int
    device: torch.device
    data_type: torch.dtype
    channels_last: bool

    @property
    def weight_bytes(self) -> int:
        """What its weights take."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        return sum(tensor.nbytes for tensor in tensors)

    def compute_exactly(self) -> None:
        """From now on in float32."""
        self.network.float()
        self.data_type = torch.float32
