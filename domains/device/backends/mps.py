"""Looks for Apple's adapter, of which a machine has one."""

from __future__ import annotations

import platform
import subprocess
import sys

from domains.device.backends.absence import NotThere, library
from domains.device.backends.torch_adapter import runtime_version, why_unusable
from domains.device.types import Adapter, DeviceKind
from domains.values import ByteFigure


def find(kind: DeviceKind) -> list[Adapter]:
    """The adapter.

    Raises:
        NotThere: This is no Mac, or torch is missing or built without Metal.
    """
    if sys.platform != "darwin":
        raise NotThere("Metal exists on macOS only")
    torch = library("torch")
    if not torch.backends.mps.is_built():
        raise NotThere(f"torch {torch.__version__} was built without MPS")
    if not torch.backends.mps.is_available():
        raise NotThere("Metal reports no adapter, or this macOS is older than 14.0")
    return [
        Adapter(
            kind=kind,
            name=brand() or "Apple GPU",
            vendor="Apple",
            torch_device="mps:0",
            total_memory=ByteFigure.measured(
                int(torch.mps.recommended_max_memory()), "torch.mps.recommended_max_memory()"
            ),
            driver_version=f"macOS {platform.mac_ver()[0]}",
            runtime_version=runtime_version(torch),
            unified_memory=platform.machine() == "arm64",
            explanation=why_unusable(torch, "mps:0"),
        )
    ]


def brand() -> str:
    """What its maker calls a Mac's chip; empty where the system does not tell."""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(shown.stdout.split())
