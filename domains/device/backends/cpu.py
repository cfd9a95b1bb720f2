"""Describes the processor without torch: from the operating system alone."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path

import psutil

from domains.device.backends import mps
from domains.device.backends.cgroup import memory_limit
from domains.device.types import Adapter, DeviceKind
from domains.values import ByteFigure

_VENDORS = {"intel": "Intel", "amd": "AMD", "apple": "Apple", "ampere": "Ampere"}


def find(*, torch_is_elsewhere: bool = False) -> Adapter:
    """The processor.

    Args:
        torch_is_elsewhere: Its worker has an interpreter of its own, so this one's
            libraries say nothing about it.
    """
    name = _name()
    runtime, explanation = "", ""
    if not torch_is_elsewhere:
        try:
            runtime = f"torch {metadata.version('torch')}"
        except metadata.PackageNotFoundError:
            explanation = "torch is not installed; install the extra [torch]"
    return Adapter(
        kind=DeviceKind.CPU,
        name=name,
        vendor=next((v for word, v in _VENDORS.items() if word in name.lower()), ""),
        torch_device="cpu",
        total_memory=total_memory(),
        runtime_version=runtime,
        unified_memory=True,
        explanation=explanation,
    )


def total_memory() -> ByteFigure:
    """Main memory this process may use: the machine's, or its container's share."""
    physical = psutil.virtual_memory().total
    limit = memory_limit()
    if limit is not None and limit.limit_bytes < physical:
        return ByteFigure.measured(limit.limit_bytes, limit.source)
    return ByteFigure.measured(physical, "psutil.virtual_memory().total")


def _name() -> str:
    """What its maker calls it; where the system does not tell, its architecture."""
    told = ""
    if sys.platform == "linux":
        told = _from_cpuinfo(Path("/proc/cpuinfo"))
    elif sys.platform == "darwin":
        told = mps.brand()
    elif sys.platform == "win32":
        told = _from_registry()
    # Python's own name is "arm" on a Mac, and a family and a stepping on Windows.
    return told or platform.processor() or platform.machine() or "processor"


def _from_registry() -> str:
    import winreg

    path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:  # type: ignore[attr-defined,unused-ignore]
            name, _ = winreg.QueryValueEx(key, "ProcessorNameString")  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return ""
    return " ".join(str(name).split())


def _from_cpuinfo(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Hardware"} and value.strip():
            return " ".join(value.split())
    return ""
