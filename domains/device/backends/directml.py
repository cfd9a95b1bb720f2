"""Looks for DirectX 12 adapters.

The library answers some questions by ending the process: when there is no adapter,
`device()` still hands one out and its first use is a segmentation fault. So the count is
asked first, and nothing else when it is zero.
"""

from __future__ import annotations

from typing import Any

from domains.device.backends.absence import NotThere, library
from domains.device.types import Adapter, DeviceKind
from domains.values import ByteFigure

_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "radeon": "AMD", "intel": "Intel"}


def find(kind: DeviceKind) -> list[Adapter]:
    """Every adapter, in the library's order.

    Raises:
        NotThere: The library or the system's part of DirectML is missing, or it finds
            no hardware adapter; software ones do not count.
    """
    directml = library("torch_directml")
    torch = library("torch")
    try:
        count = int(directml.device_count())
    except RuntimeError as error:
        raise NotThere(f"DirectX does not answer: {error}") from error
    if count == 0:
        raise NotThere("DirectX reports no hardware adapter")
    return [_adapter(torch, directml, kind, index) for index in range(count)]


def _adapter(torch: Any, directml: Any, kind: DeviceKind, index: int) -> Adapter:
    device = directml.device(index)
    # A name ends in NUL characters on some drivers.
    name = str(directml.device_name(index)).strip("\0 ")
    return Adapter(
        kind=kind,
        name=name,
        vendor=next((v for word, v in _VENDORS.items() if word in name.lower()), ""),
        torch_device=str(device),
        total_memory=ByteFigure.unknown("torch_directml tells no total"),
        runtime_version=f"torch {torch.__version__}, torch-directml",
        explanation=_why_unusable(torch, device),
    )


def _why_unusable(torch: Any, device: Any) -> str:
    """As for other kinds, with the sum made on the processor: few operators are native."""
    try:
        total = (torch.ones(8).to(device) + 1).cpu().sum().item()
    except Exception as error:  # The driver raises whatever it likes.
        return f"a first computation failed: {error}"
    return "" if total == 16 else "a first computation gave a wrong result"
