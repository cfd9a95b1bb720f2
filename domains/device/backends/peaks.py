"""The most memory a device's tensors took: since the worker began, and during a stretch.

Allocators count one peak and forget it when a stretch begins, so what they forget is kept
here.
"""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

from domains.device.backends.allocator import peak_bytes
from domains.values import ByteFigure

_forgotten: dict[str, int] = {}
_PROCESS = "process"
_open: weakref.WeakSet[Stretch] = weakref.WeakSet()
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
    return max(_forgotten.get(device, 0), peak_bytes(backend, device))


def greatest_resident() -> int:
    """The most resident memory of this process that stretches made the system forget."""
    return _forgotten.get(_PROCESS, 0)


class Stretch:
    """The peak from its making on. Stretches may begin within others.

    Args:
        backend: Torch's module for the device's kind; None for the processor, whose
            tensors nobody counts: the whole process is looked at there.
        device: As torch names it.
    """

    def __init__(self, backend: Any, device: str) -> None:
        self._backend = backend
        self._device = _PROCESS if backend is None else device
        self._before = 0  # the peak that a stretch within this one made forgotten
        self._counts = backend is None or hasattr(backend, "reset_peak_memory_stats")
        if not self._counts:
            return
        if hasattr(backend, "init"):
            backend.init()  # an allocator that was not used yet refuses to be reset
        peak = self._now()
        _forgotten[self._device] = max(_forgotten.get(self._device, 0), peak)
        for other in _open:
            if other._device == self._device:
                other._before = max(other._before, peak)
        if backend is None:
            self._counts = _reset_resident_peak()
        else:
            backend.reset_peak_memory_stats(device)
        _open.add(self)

    def _now(self) -> int:
        if self._backend is None:
            return _resident_peak()
        return peak_bytes(self._backend, self._device)

    def peak(self) -> ByteFigure:
        """The most memory so far."""
        if self._backend is None:
            if not self._counts:
                return ByteFigure.unknown("this system does not tell a peak for a stretch")
            return ByteFigure.measured(
                max(self._before, self._now()),
                "VmHWM of /proc/self/status, the whole worker",
            )
        if not self._counts:
            return ByteFigure.unknown("torch counts no peak on this kind of device")
        name = self._backend.__name__
        peak = max(self._before, self._now())
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
    if sys.platform != "linux":
        return 0
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
