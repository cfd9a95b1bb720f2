"""Devices as rows of a table: what each is, and how it is now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deviceops.v1 import device_info_pb2, device_pb2
from server.cli.client import Client
from server.cli.wording import byte_figure, enum_word

HEADINGS = (
    *("device", "kind", "name", "state", "free / total"),
    *("load", "temperature", "queue", "session", "remark"),
)


@dataclass(frozen=True)
class Machine:
    """Every device, with its status and memory in the same order."""

    found: device_pb2.ListDevicesResponse
    statuses: Sequence[device_pb2.GetDeviceStatusResponse]
    memory: Sequence[device_info_pb2.DeviceMemory]


def ask(client: Client, *, refresh: bool = False) -> Machine:
    """How every device is now; `CallFailed` when the server does not tell."""
    stub = client.devices
    found = client.ask(stub.ListDevices, device_pb2.ListDevicesRequest(refresh=refresh))
    ids = [device.device_id for device in found.devices]
    return Machine(
        found,
        [
            client.ask(stub.GetDeviceStatus, device_pb2.GetDeviceStatusRequest(device_id=name))
            for name in ids
        ],
        [
            client.ask(
                stub.GetDeviceMemory, device_pb2.GetDeviceMemoryRequest(device_id=name)
            ).memory
            for name in ids
        ],
    )


def rows(machine: Machine) -> list[Sequence[str]]:
    """A row for each device; unknown figures are `?`, estimated ones have a `~`."""
    return [
        (
            device.device_id + (" *" if device.is_default else ""),
            enum_word(device_info_pb2.DeviceKind, device.kind, "DEVICE_KIND_"),
            device.name,
            enum_word(device_info_pb2.DeviceState, device.state, "DEVICE_STATE_"),
            f"{byte_figure(memory.free)} / {byte_figure(memory.total)}",
            f"{status.load:.0%}" if status.HasField("load") else "",
            f"{status.temperature_celsius:.0f} °C"
            if status.HasField("temperature_celsius")
            else "",
            str(status.queue_depth),
            status.session_id,
            device.explanation,
        )
        for device, status, memory in zip(
            machine.found.devices, machine.statuses, machine.memory, strict=True
        )
    ]
