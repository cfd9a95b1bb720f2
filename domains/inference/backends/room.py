"""Whether a model and the pictures it draws fit into memory, before a byte of it is read."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from domains.device.backends.cgroup import memory_limit
from domains.device.backends.torch_gauge import (
    in_main_memory,
    obtainable_bytes,
    total_bytes,
)
from domains.errors import Reason, ResourceExhausted
from domains.model.core import room


def picture_bytes(
    vae_config: dict[str, Any], width: int, height: int, data_type: torch.dtype
) -> int:
    """What drawing one picture takes beside the weights; see the function of that name.

    Args:
        vae_config: The VAE's checked configuration.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        data_type: In which the VAE computes.
    """
    channels = int(vae_config["block_out_channels"][:2][-1])
    return room.picture_bytes(channels, width, height, data_type.itemsize)


def fits_beside(needed_bytes: int, device: torch.device) -> bool:
    """Whether that much fits beside what is held; no where the device does not say.

    What the allocator keeps unused counts as free.
    """
    missing = missing_beside(needed_bytes, device)
    return missing is not None and missing <= 0


def missing_beside(needed_bytes: int, device: torch.device) -> int | None:
    """Bytes that would have to become free for that much to fit beside what is held; None where
    the device does not say, 0 or less where it fits."""
    free = obtainable_bytes(device)
    return None if free is None else needed_bytes + room.SPARE_BYTES - free


def check_possible(needed_bytes: int, device: torch.device) -> None:
    """Refuse what would not fit if the device held nothing else.

    Raises:
        ResourceExhausted: HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY, with `needed_bytes`
            and `total_bytes`.
    """
    host = in_main_memory(device)
    total = _host_bytes() if host else total_bytes(device)
    if total is None or needed_bytes <= total:
        return
    raise ResourceExhausted(
        f"The model's weights need {needed_bytes} bytes, and there are {total} in all; use a "
        "smaller model or another device.",
        reason=Reason.HOST_OUT_OF_MEMORY if host else Reason.DEVICE_OUT_OF_MEMORY,
        metadata={"needed_bytes": str(needed_bytes), "total_bytes": str(total)},
    )


def _host_bytes() -> int:
    installed, limit = int(psutil.virtual_memory().total), memory_limit()
    return installed if limit is None else min(installed, limit.limit_bytes)
