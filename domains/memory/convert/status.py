"""Figures and pressure between proto and domain values."""

from __future__ import annotations

from collections.abc import Sequence

from deviceops.v1 import memory_info_pb2, memory_pb2
from domains.conversions import EnumMap, byte_figure, timestamp
from domains.device.convert import memory_to_proto
from domains.memory.types import (
    Heartbeat,
    HostMemory,
    MemoryStatus,
    Place,
    Pressure,
    PressureLevel,
    PressureReaction,
    Threshold,
)

LEVELS = EnumMap(PressureLevel, memory_pb2.PressureLevel, "PRESSURE_LEVEL_")
REACTIONS = EnumMap(PressureReaction, memory_pb2.PressureReaction, "PRESSURE_REACTION_")


def host_to_proto(host: HostMemory) -> memory_pb2.HostMemoryStatus:
    """Main memory."""
    limit = host.container_limit
    return memory_pb2.HostMemoryStatus(
        total=byte_figure(host.total),
        available=byte_figure(host.available),
        used_by_server=byte_figure(host.used_by_server),
        swap_total=byte_figure(host.swap_total),
        swap_used=byte_figure(host.swap_used),
        container_limit=None if limit is None else byte_figure(limit),
    )


def status_to_proto(status: MemoryStatus) -> memory_pb2.MemoryStatus:
    """Main memory and device memory."""
    return memory_pb2.MemoryStatus(
        host=host_to_proto(status.host),
        devices=[memory_to_proto(memory) for memory in status.devices],
        read_time=timestamp(status.read_time),
    )


def place_to_proto(place: Place) -> memory_info_pb2.MemoryPlace:
    """Where bytes lie."""
    if place.host:
        return memory_info_pb2.MemoryPlace(host=memory_info_pb2.HostMemory(pinned=place.pinned))
    return memory_info_pb2.MemoryPlace(device_id=place.device_id)


def pressure_to_proto(pressure: Pressure) -> memory_pb2.MemoryPressure:
    """How tight memory is in one place."""
    return memory_pb2.MemoryPressure(
        place=place_to_proto(pressure.place),
        level=LEVELS.to_proto(pressure.level),
        used_share=pressure.used_share,
        since_time=timestamp(pressure.since_time),
    )


def pressures_to_proto(
    pressures: Sequence[Pressure], thresholds: Sequence[Threshold]
) -> memory_pb2.GetMemoryPressureResponse:
    """How tight memory is everywhere, and where levels begin and end."""
    return memory_pb2.GetMemoryPressureResponse(
        pressures=[pressure_to_proto(pressure) for pressure in pressures],
        thresholds=[
            memory_pb2.PressureThreshold(
                level=LEVELS.to_proto(threshold.level),
                enter_share=threshold.enter,
                leave_share=threshold.leave,
                reactions=map(REACTIONS.to_proto, threshold.reactions),
            )
            for threshold in thresholds
        ],
    )


class ReadingConverter:
    """Turns readings of watches into messages; one that goes out to many, once."""

    def __init__(self) -> None:
        self._last: tuple[MemoryStatus, memory_pb2.WatchMemoryResponse] | None = None

    def to_proto(
        self, reading: MemoryStatus | Pressure | Heartbeat
    ) -> memory_pb2.WatchMemoryResponse:
        """One reading of a watch."""
        if isinstance(reading, Pressure):
            return memory_pb2.WatchMemoryResponse(pressure=pressure_to_proto(reading))
        if isinstance(reading, Heartbeat):
            beat = memory_pb2.MemoryHeartbeat(event_time=timestamp(reading.event_time))
            return memory_pb2.WatchMemoryResponse(heartbeat=beat)
        if self._last is None or self._last[0] is not reading:
            message = memory_pb2.WatchMemoryResponse(status=status_to_proto(reading))
            self._last = (reading, message)
        return self._last[1]
