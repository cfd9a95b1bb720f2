"""A device's memory as torch and its driver report it, inside the device's worker.

What a kind of device reports is found by looking for the call, never by its name.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psutil
import torch

from domains.device.backends.allocator import counted
from domains.device.backends.peaks import Stretch, greatest_peak, greatest_resident
from domains.device.backends.process_limit import capped
from domains.device.types import DeviceFigures, LoadedComponent
from domains.values import ByteFigure, FigureQuality

_HOST = ByteFigure.unknown("the device's memory is main memory, which the host's figures tell")
_SPLIT_KEY = "inactive_split_bytes.all.current"
# Intel's built-in adapters have the call and refuse it, with these words.
_NOT_TOLD = "querying the available free memory"


def device_named(name: str) -> torch.device:
    """The device that torch calls so (`cuda:0`)."""
    return torch.device(name)


def backend_of(device: torch.device) -> Any:
    """Torch's module for the device's kind (`torch.cuda`, ...); None for the processor."""
    return None if in_main_memory(device) else getattr(torch, device.type, None)


def in_main_memory(device: torch.device) -> bool:
    """Whether the device's memory is the processor's."""
    return device.type == "cpu"


def stretch_on(device: torch.device) -> Stretch:
    """Begins to count the most memory of a device."""
    # A kind that torch has no module for counts nothing; it is not the processor.
    backend = None if in_main_memory(device) else backend_of(device) or torch
    return Stretch(backend, str(device))


def single_threaded(device: torch.device) -> bool:
    """Whether only one thread may touch the device, as with DirectML's command queue."""
    return device.type == "privateuseone"


def free_bytes(device: torch.device) -> int | None:
    """Free memory of `device` in bytes, where it reports it."""
    told = _mem_get_info(backend_of(device), device)
    return None if told is None else told[0]


def total_bytes(device: torch.device) -> int | None:
    """All memory of `device` in bytes, where it reports it."""
    backend = backend_of(device)
    told = _mem_get_info(backend, device)
    return _total_of_properties(backend, device) if told is None else told[1]


def _mem_get_info(backend: Any, device: torch.device) -> tuple[int, int] | None:
    """Free bytes and all of them, where the driver tells them."""
    ask = getattr(backend, "mem_get_info", None)
    if ask is None:
        return None
    try:
        free, total = ask(device)
    except RuntimeError as error:
        if _NOT_TOLD not in str(error):
            raise
        return None
    return int(free), int(total)


def _total_of_properties(backend: Any, device: torch.device) -> int | None:
    ask = getattr(backend, "get_device_properties", None)
    return None if ask is None else int(ask(device).total_memory)


def free_host_bytes() -> int:
    """Main memory that can be had without swapping, a limit on this process counted in."""
    return capped(int(psutil.virtual_memory().available))


def obtainable_bytes(device: torch.device) -> int | None:
    """Memory that tensors on `device` can have: what is free, and what the allocator keeps
    unused; None where the device does not say."""
    if in_main_memory(device):
        return free_host_bytes()
    free, backend = free_bytes(device), backend_of(device)
    if free is None or not hasattr(backend, "memory_reserved"):
        return free
    counts = counted(backend, device)
    if counts is not None:
        return free + counts.reserved - counts.allocated
    return free + int(backend.memory_reserved(device)) - int(backend.memory_allocated(device))


def gauge_for(device: torch.device) -> TorchGauge | ProcessGauge:
    """What reads that device's memory."""
    return ProcessGauge() if in_main_memory(device) else TorchGauge(device)


class ProcessGauge:
    """Where a device's memory is main memory: only the process as a whole is measured."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak = 0

    def read(self, leased: int, models: tuple[LoadedComponent, ...]) -> DeviceFigures:
        """Figures now. `allocated` is computed from what the worker knows it holds."""
        resident = self._process.memory_info().rss
        self._peak = max(self._peak, resident)
        known = leased + sum(model.size.value or 0 for model in models)
        unknown = ByteFigure.unknown("the system's allocator does not tell")
        return DeviceFigures(
            total=_HOST,
            free=_HOST,
            allocated=ByteFigure(
                known, FigureQuality.ESTIMATED, "leases + weights of loaded networks"
            ),
            reserved=ByteFigure.measured(resident, "psutil.Process().memory_info().rss"),
            peak_allocated=ByteFigure.measured(
                self._peak_resident(), "the most resident memory of the worker so far"
            ),
            largest_free=unknown,
            inactive_split=unknown,
            leased_bytes=leased,
            models=models,
            read_time=datetime.now(UTC),
        )

    def _peak_resident(self) -> int:
        if sys.platform == "win32":
            return max(self._peak, int(self._process.memory_info().peak_wset))
        import resource

        # Kilobytes, on macOS bytes (getrusage(2)).
        unit = 1 if sys.platform == "darwin" else 1024
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return max(self._peak, resident, greatest_resident())


class TorchGauge:
    """A device that torch drives; see `DeviceFigures` for the meaning of each figure.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._backend = backend_of(device)
        self._name = f"torch.{device.type}"

    def read(self, leased: int, models: tuple[LoadedComponent, ...]) -> DeviceFigures:
        """Figures now.

        Raises:
            RuntimeError: The driver is in trouble.
        """
        free, total = self._free_and_total()
        counts = counted(self._backend, self._device)
        allocated = reserved = split = None
        if counts is not None:
            allocated, reserved = counts.allocated, counts.reserved
            split = counts.inactive_split
        return DeviceFigures(
            total=total,
            free=free,
            allocated=self._first(allocated, "memory_allocated", "current_allocated_memory"),
            reserved=self._first(reserved, "memory_reserved", "driver_allocated_memory"),
            peak_allocated=self._peak(),
            largest_free=ByteFigure.unknown("no driver tells its largest free block"),
            inactive_split=self._inactive_split(split),
            leased_bytes=leased,
            models=models,
            read_time=datetime.now(UTC),
        )

    def _free_and_total(self) -> tuple[ByteFigure, ByteFigure]:
        told = _mem_get_info(self._backend, self._device)
        if told is not None:
            free, total = told
            source = f"{self._name}.mem_get_info()"
            return ByteFigure.measured(free, source), ByteFigure.measured(total, source)
        ask = getattr(self._backend, "recommended_max_memory", None)
        if ask is not None:
            source = f"{self._name}.recommended_max_memory()"
            most = int(ask())
            used = int(self._backend.driver_allocated_memory())
            free_figure = ByteFigure(
                max(0, most - used), FigureQuality.ESTIMATED, f"{source} - driver_allocated"
            )
            return free_figure, ByteFigure.measured(most, source)
        unknown = ByteFigure.unknown(f"{self._name} does not tell")
        all_bytes = _total_of_properties(self._backend, self._device)
        if all_bytes is None:
            return unknown, unknown
        source = f"{self._name}.get_device_properties().total_memory"
        return unknown, ByteFigure.measured(all_bytes, source)

    def _first(self, known: int | None, *calls: str) -> ByteFigure:
        if known is not None:
            return ByteFigure.measured(known, f"{self._name}.{calls[0]}()")
        for call in calls:
            ask: Callable[..., int] | None = getattr(self._backend, call, None)
            if ask is not None:
                value = ask(self._device) if call.startswith("memory_") else ask()
                return ByteFigure.measured(int(value), f"{self._name}.{call}()")
        return self._used_tiles()

    def _peak(self) -> ByteFigure:
        if not hasattr(self._backend, "max_memory_allocated"):
            return ByteFigure.unknown(f"{self._name} counts no peak")
        peak = greatest_peak(self._backend, str(self._device))
        return ByteFigure.measured(peak, f"{self._name}.max_memory_allocated()")

    def _inactive_split(self, known: int | None) -> ByteFigure:
        if known is None:
            ask = getattr(self._backend, "memory_stats", None)
            known = None if ask is None else ask(self._device).get(_SPLIT_KEY)
        if known is None:
            return ByteFigure.unknown(f"{self._name} does not tell")
        return ByteFigure.measured(known, f"{self._name}.memory_stats()[{_SPLIT_KEY!r}]")

    def _used_tiles(self) -> ByteFigure:
        """DirectML reports how full each tile of the process's memory is, nothing else."""
        unknown = ByteFigure.unknown(f"{self._name} does not tell")
        if self._device.type != "privateuseone":
            return unknown
        library = importlib.import_module("torch_directml")
        tiles = library.gpu_memory(self._device.index or 0, 1)
        used = int(sum(tiles) * (1 << 20))
        return ByteFigure(
            used, FigureQuality.ESTIMATED, "torch_directml.gpu_memory(), used tiles only"
        )
