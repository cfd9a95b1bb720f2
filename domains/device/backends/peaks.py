"""The most memory a device's tensors took: since the worker began, and during a stretch.

Allocators count one peak and forget it when a stretch begins, so what they forget is kept
here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from domains.values import ByteFigure

_forgotten: dict[str, int] = {}
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
# Of /proc/<pid>/clear_refs: resets the peak of the resident memory (man 5 proc).
_RESET_PEAK = "5"


def greatest_peak(backend: Any, device: str) -> int:
    """The most bytes of tensors since the process began, by `max_memory_allocated`.

    Args:
        backend: Torch's module for the device's kind, such as `torch.cuda`.
        device: As torch names it.
    """
    return max(_forgotten.get(device, 0), int(backend.max_memory_allocated(device)))


class Stretch:
    """The peak from its making on.

    Args:
        backend: Torch's module for the device's kind; None for the processor, whose
            tensors nobody counts: the whole process is looked at there.
        device: As torch names it.
    """

    def __init__(self, backend: Any, device: str) -> None:
        self._backend = backend
        self._device = device
        if backend is None:
            self._resets = _reset_resident_peak()
        elif hasattr(backend, "reset_peak_memory_stats"):
            _forgotten[device] = greatest_peak(backend, device)
            backend.reset_peak_memory_stats(device)

    def peak(self) -> ByteFigure:
        """The most memory so far."""
        if self._backend is None:
            if not self._resets:
                return ByteFigure.unknown("this system does not tell a peak for a stretch")
            return ByteFigure.measured(
                _resident_peak(), "VmHWM of /proc/self/status, the whole worker"
            )
        if not hasattr(self._backend, "reset_peak_memory_stats"):
            return ByteFigure.unknown("torch counts no peak on this kind of device")
        name = self._backend.__name__
        peak = int(self._backend.max_memory_allocated(self._device))
        return ByteFigure.measured(peak, f"{name}.max_memory_allocated()")


def _reset_resident_peak() -> bool:
    if sys.platform != "linux":
        return False
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _resident_peak() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
