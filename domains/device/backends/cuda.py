"""Looks for NVIDIA adapters, and for AMD ones, which ROCm's torch calls cuda too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from domains.device.backends.absence import NotThere, library
from domains.device.backends.torch_adapter import runtime_version, why_unusable
from domains.device.backends.torch_build import must_be_built_for
from domains.device.types import Adapter, DeviceKind
from domains.values import ByteFigure

_BUILT_FOR = {DeviceKind.CUDA: "CUDA", DeviceKind.ROCM: "ROCm"}
_TOOLKITS = {DeviceKind.CUDA: "cuda", DeviceKind.ROCM: "hip"}
_VENDORS = {DeviceKind.CUDA: "NVIDIA", DeviceKind.ROCM: "AMD"}
_NVIDIA_VERSION = Path("/proc/driver/nvidia/version")
_AMD_VERSION = Path("/sys/module/amdgpu/version")


def find(kind: DeviceKind) -> list[Adapter]:
    """Every adapter of `kind`, CUDA or ROCM, in torch's order.

    Raises:
        NotThere: Torch is missing, built for something else, or finds no adapter.
    """
    must_be_built_for(_BUILT_FOR[kind], _TOOLKITS[kind])
    torch = library("torch")
    if not getattr(torch.version, _TOOLKITS[kind]):
        raise NotThere(f"torch {torch.__version__} was built without {_BUILT_FOR[kind]}")
    if not torch.cuda.is_available():
        raise NotThere(_why_not_available(torch))
    return [_adapter(torch, kind, index) for index in range(torch.cuda.device_count())]


def _why_not_available(torch: Any) -> str:
    try:
        torch.cuda.init()
    except Exception as error:  # The driver's own words explain most.
        return str(error).partition(". ")[0]
    return "the driver reports no adapter"


def _adapter(torch: Any, kind: DeviceKind, index: int) -> Adapter:
    properties = torch.cuda.get_device_properties(index)
    torch_device = f"cuda:{index}"
    slot = _pci_address(properties)
    uuid = str(getattr(properties, "uuid", "") or "")
    return Adapter(
        kind=kind,
        name=str(properties.name),
        vendor=_VENDORS[kind],
        torch_device=torch_device,
        total_memory=ByteFigure.measured(
            int(properties.total_memory), "torch.cuda.get_device_properties().total_memory"
        ),
        slot=slot,
        hardware_id=f"GPU-{uuid}" if uuid else slot,
        driver_version=_driver_version(kind),
        runtime_version=runtime_version(torch),
        unified_memory=bool(getattr(properties, "is_integrated", False)),
        explanation=why_unusable(torch, torch_device),
    )


def _pci_address(properties: Any) -> str:
    """Such as 0000:3b:00; empty where this torch does not report it."""
    parts = [
        getattr(properties, name, None)
        for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")
    ]
    if any(not isinstance(part, int) for part in parts):
        return ""
    domain, bus, device = parts
    return f"{domain:04x}:{bus:02x}:{device:02x}"


def _driver_version(kind: DeviceKind) -> str:
    path = _NVIDIA_VERSION if kind is DeviceKind.CUDA else _AMD_VERSION
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    match = re.search(r"\d+\.\d+(?:\.\d+)*", text)
    return match[0] if match else ""
