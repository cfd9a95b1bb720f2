"""Looks for Intel adapters."""

from __future__ import annotations

from typing import Any

from domains.device.backends.absence import NotThere, library
from domains.device.backends.torch_adapter import runtime_version, why_unusable
from domains.device.backends.torch_build import must_be_built_for
from domains.device.types import Adapter, DeviceKind
from domains.values import ByteFigure


def find(kind: DeviceKind) -> list[Adapter]:
    """Every Intel adapter, in torch's order.

    Raises:
        NotThere: Torch is missing, built for something else, or finds no adapter.
    """
    must_be_built_for("XPU", "xpu")
    torch = library("torch")
    xpu = getattr(torch, "xpu", None)
    if xpu is None or not xpu._is_compiled():
        raise NotThere(f"torch {torch.__version__} was built without XPU")
    if not xpu.is_available():
        raise NotThere("the driver reports no adapter")
    return [_adapter(torch, kind, index) for index in range(xpu.device_count())]


def _adapter(torch: Any, kind: DeviceKind, index: int) -> Adapter:
    properties = torch.xpu.get_device_properties(index)
    torch_device = f"xpu:{index}"
    return Adapter(
        kind=kind,
        name=str(properties.name),
        vendor="Intel",
        torch_device=torch_device,
        total_memory=ByteFigure.measured(
            int(properties.total_memory), "torch.xpu.get_device_properties().total_memory"
        ),
        hardware_id=str(getattr(properties, "uuid", "") or ""),
        driver_version=str(getattr(properties, "driver_version", "") or ""),
        runtime_version=runtime_version(torch),
        unified_memory=bool(getattr(properties, "is_integrated_gpu", False)),
        explanation=why_unusable(torch, torch_device),
    )
