"""Networks whose forward and backward pass CUDA replays as one recorded graph.

Small networks at the batch sizes used here leave the GPU idle while Python launches thousands
of kernels for each step; a recorded pass is launched as one. Measured on one data centre GPU
with a slow processor, training steps take a fraction of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SdxlDenoiser(nn.Module):
    """A UNet of SDXL's or its refiner's architecture, as a function of tensors alone."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, noisy: Tensor, times: Tensor, states: Tensor, pooled: Tensor, ids: Tensor
    ) -> Tensor:
        """Epsilon [B, 4, h, w] for latents, int64 timesteps [B], text and time ids [B, n]."""
        kind = self.unet.dtype
        added = {"text_embeds": pooled.to(kind), "time_ids": ids.to(kind)}
        epsilon: Tensor = self.unet(
            noisy.to(kind), times, states.to(kind), added_cond_kwargs=added, return_dict=False
        )[0]
        return epsilon


def captured(network: nn.Module, *samples: Tensor, narrow: bool = False) -> nn.Module:
    """Record `network` on CUDA in bfloat16; elsewhere it is returned as it is.

    Args:
        network: Takes and gives tensors only, always of the same shapes. Its parameters may
            change in place, and nothing else about it.
        samples: One tensor for each argument, of the shape, type and `requires_grad` that
            training will pass. Their values do not matter.
        narrow: Turn its parameters into bfloat16, so that nothing is cast in passing and norms
            move half as much; the network casts its inputs, and the loop keeps exact copies
            of the parameters. Otherwise autocast casts them in every pass.
    """
    if samples[0].device.type != "cuda":
        return network
    if narrow:
        network.to(torch.bfloat16)
    with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False, enabled=not narrow):
        # Recording replaces the module's forward.
        torch.cuda.make_graphed_callables(network, samples, allow_unused_input=True)
    return network


def sdxl_samples(
    states_width: int,
    pooled_width: int,
    batch: int,
    device: torch.device,
    *,
    ids: int = 6,
    text_trained: bool = False,
) -> tuple[Tensor, ...]:
    """Samples for `captured` of an SdxlDenoiser; `text_trained` if text wants gradients."""
    return (
        torch.zeros(batch, 4, 32, 32, device=device),
        torch.zeros(batch, dtype=torch.int64, device=device),
        torch.zeros(batch, 77, states_width, device=device, requires_grad=text_trained),
        torch.zeros(batch, pooled_width, device=device, requires_grad=text_trained),
        torch.zeros(batch, ids, device=device),
    )
