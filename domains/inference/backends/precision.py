"""Which numbers networks compute in when nothing was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.device import DATA_TYPES, Numerics, Traits, traits_of
from domains.values import ModelPart, PartDataType


def vae_numerics(traits: Traits, config: dict[str, Any]) -> Numerics:
    """The VAE's numbers, settled at load and never flipped by a request.

    A VAE whose configuration says `force_upcast` overflows in float16.
    """
    half = traits.exact.data_type is torch.float16
    if half and (traits.vae_always_float32 or config["force_upcast"]):
        return Numerics(torch.float32)
    return traits.exact


def check_supported(chosen: Iterable[PartDataType], device: torch.device) -> None:
    """Refuse data types that networks are not computed in on that device.

    Raises:
        FailedPrecondition: DEVICE_UNSUPPORTED.
    """
    traits = traits_of(device)
    known = {torch.float32, *(numerics.data_type for numerics in traits.candidates)}
    known_for_vae = {torch.float32} if traits.vae_always_float32 else known
    for each in chosen:
        usable = known_for_vae if each.part is ModelPart.VAE else known
        names = sorted(DATA_TYPES[data_type].value for data_type in usable)
        if each.data_type.value not in names:
            raise FailedPrecondition(
                f"On this device the model's {each.part.value} computes in "
                f"{' or '.join(names)}, not in {each.data_type.value}.",
                reason=Reason.DEVICE_UNSUPPORTED,
                metadata={"part": each.part.value, "data_type": each.data_type.value},
            )


def chosen_type(chosen: Iterable[PartDataType], part: ModelPart) -> torch.dtype | None:
    """The data type that was chosen for a part; None where none was."""
    names = {own: data_type for data_type, own in DATA_TYPES.items()}
    return next((names[each.data_type] for each in chosen if each.part is part), None)


def chosen_numerics(chosen: Iterable[PartDataType], part: ModelPart) -> Numerics | None:
    """The numbers that were chosen for a part; None where none were."""
    data_type = chosen_type(chosen, part)
    return None if data_type is None else Numerics(data_type)


def apply(network: nn.Module, numerics: Numerics) -> nn.Module:
    """Bring `network` into `numerics`, in place."""
    network.to(dtype=numerics.data_type)
    layout = torch.channels_last if numerics.channels_last else torch.contiguous_format
    # Torch's stubs lack this overload.
    return network.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]
