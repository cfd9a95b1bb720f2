"""A device's memory as its worker told it, and what follows from the figures."""

from __future__ import annotations

from dataclasses import replace

from domains.device.ports import MainMemory
from domains.device.types import Device, DeviceFigures, DeviceMemory
from domains.values import ByteFigure, FigureQuality

_LOST = "the device is lost"
_UNCOMPUTED = "a figure it is computed from is unknown"
_UNTOLD = "no worker of the device has told it yet"


def device_memory(
    device: Device, figures: DeviceFigures | None, main: MainMemory | None = None
) -> DeviceMemory:
    """The device's memory; what nobody told is unknown, with the reason as its source.

    Args:
        device: Whose memory.
        figures: What its worker told last; None when none lives or none has told yet.
        main: Main memory, for devices whose memory it is.
    """
    memory = _as_told(device, figures)
    if main is None or not device.traits.in_main_memory:
        return memory
    return replace(
        memory, total=main.total, free=main.available, used_by_others=_used_beside(main)
    )


def _as_told(device: Device, figures: DeviceFigures | None) -> DeviceMemory:
    if figures is None:
        why = ByteFigure.unknown(_LOST if device.lost else _UNTOLD)
        total = why if device.lost else device.total_memory
        return DeviceMemory(device.device_id, total, why, why, why, why, why)
    known = figures.total.value is not None or not device.node
    return DeviceMemory(
        device_id=device.device_id,
        # A worker cannot tell how large its machine's main memory is; discovery there did.
        total=figures.total if known else device.total_memory,
        free=figures.free,
        allocated=figures.allocated,
        reserved=figures.reserved,
        used_by_others=_used_by_others(figures),
        peak_allocated=figures.peak_allocated,
    )


def loaded_models(figures: DeviceFigures | None) -> list[str]:
    """The models on the device, of whatever type: those in use first, then the ones used last
    first."""
    parts = () if figures is None else figures.models
    latest = sorted(parts, key=lambda part: (part.in_use, part.last_use_time), reverse=True)
    return list(dict.fromkeys(part.model_id for part in latest))


def loaded_model(figures: DeviceFigures | None) -> str:
    """The first of `loaded_models`; empty when there is none."""
    return next(iter(loaded_models(figures)), "")


def _used_beside(main: MainMemory) -> ByteFigure:
    """What neither is available nor is this server's.

    Pages that processes share count for each of them, so the difference can be negative.
    """
    total, available = main.total.value, main.available.value
    ours = main.used_by_server.value
    if total is None or available is None or ours is None:
        return ByteFigure.unknown(_UNCOMPUTED)
    return ByteFigure(
        max(0, total - available - ours),
        FigureQuality.ESTIMATED,
        "total - available - used_by_server",
    )


def _used_by_others(figures: DeviceFigures) -> ByteFigure:
    """What is neither free nor held by our worker's allocator.

    Read at different moments, so the difference can be below zero; it is never told so.
    """
    ours, word = figures.reserved, "reserved"
    if ours.value is None:
        ours, word = figures.allocated, "allocated"
    total, free = figures.total.value, figures.free.value
    if total is None or free is None or ours.value is None:
        return ByteFigure.unknown(_UNCOMPUTED)
    return ByteFigure(
        max(0, total - free - ours.value), FigureQuality.ESTIMATED, f"total - free - {word}"
    )
