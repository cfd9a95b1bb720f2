"""Whether a model's weights fit into memory, before a byte of them is read."""

from __future__ import annotations

import psutil
import torch

from domains.device.backends.cgroup import memory_limit
from domains.device.backends.torch_gauge import (
    backend_of,
    free_bytes,
    free_host_bytes,
    in_main_memory,
)
from domains.errors import Reason, ResourceExhausted
from domains.inference.backends.device import release_memory

# Left for one tensor on its way and for everything else that runs on the machine.
_SPARE_BYTES = 512 << 20


def fits_beside(needed_bytes: int, device: torch.device) -> bool:
    """Whether that much fits beside what is held; no where the device does not say."""
    if _fits(needed_bytes, device):
        return True
    release_memory(device)
    return _fits(needed_bytes, device)


def check_possible(needed_bytes: int, device: torch.device) -> None:
    """Refuse what would not fit if the device held nothing else.

    Raises:
        ResourceExhausted: HOST_OUT_OF_MEMORY or DEVICE_OUT_OF_MEMORY, with `needed_bytes`
            and `total_bytes`.
    """
    host = in_main_memory(device)
    total = _host_bytes() if host else _device_bytes(device)
    if total is None or needed_bytes <= total:
        return
    raise ResourceExhausted(
        f"The model's weights need {needed_bytes} bytes, and there are {total} in all; use a "
        "smaller model or another device.",
        reason=Reason.HOST_OUT_OF_MEMORY if host else Reason.DEVICE_OUT_OF_MEMORY,
        metadata={"needed_bytes": str(needed_bytes), "total_bytes": str(total)},
    )


def _fits(needed_bytes: int, device: torch.device) -> bool:
    free = free_host_bytes() if in_main_memory(device) else free_bytes(device)
    return free is not None and needed_bytes + _SPARE_BYTES <= free


def _host_bytes() -> int:
    installed, limit = int(psutil.virtual_memory().total), memory_limit()
    return installed if limit is None else min(installed, limit.limit_bytes)


def _device_bytes(device: torch.device) -> int | None:
    ask = getattr(backend_of(device), "mem_get_info", None)
    return None if ask is None else int(ask(device)[1])
