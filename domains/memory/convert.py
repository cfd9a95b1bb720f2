"""Memory between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import device_pb2, memory_pb2
from domains.conversions import byte_figure, timestamp
from domains.device.types import DeviceMemory
from domains.memory.types import HostMemory, MemoryStatus


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


def device_memory_to_proto(memory: DeviceMemory) -> device_pb2.DeviceMemory:
    """A device's memory."""
    return device_pb2.DeviceMemory(
        device_id=memory.device_id,
        total=byte_figure(memory.total),
        free=byte_figure(memory.free),
        allocated=byte_figure(memory.allocated),
        reserved=byte_figure(memory.reserved),
        used_by_others=byte_figure(memory.used_by_others),
        peak_allocated=byte_figure(memory.peak_allocated),
    )


def status_to_proto(status: MemoryStatus) -> memory_pb2.MemoryStatus:
    """Main memory and device memory."""
    return memory_pb2.MemoryStatus(
        host=host_to_proto(status.host),
        devices=[device_memory_to_proto(memory) for memory in status.devices],
        read_time=timestamp(status.read_time),
    )
