"""Which numbers networks compute in when nothing was measured."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from domains.inference.backends.device import Numerics, Traits


def vae_numerics(traits: Traits, config: dict[str, Any]) -> Numerics:
    """The VAE's numbers, settled at load and never flipped by a request.

    A VAE whose configuration says `force_upcast` overflows in float16.
    """
    half = traits.exact.data_type is torch.float16
    if half and (traits.vae_always_float32 or config["force_upcast"]):
        return Numerics(torch.float32)
    return traits.exact


def apply(network: nn.Module, numerics: Numerics) -> nn.Module:
    """Bring `network` into `numerics`, in place."""
    network.to(dtype=numerics.data_type)
    layout = torch.channels_last if numerics.channels_last else torch.contiguous_format
    # Torch's stubs lack this overload.
    return network.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]
