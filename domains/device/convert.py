"""Devices between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import device_pb2
from domains.conversions import EnumMap, byte_figure
from domains.device.types import (
    DeviceKind,
    DeviceListing,
    DeviceReport,
    DeviceState,
    ProbeOutcome,
)

KINDS = EnumMap(DeviceKind, device_pb2.DeviceKind, "DEVICE_KIND_")
STATES = EnumMap(DeviceState, device_pb2.DeviceState, "DEVICE_STATE_")


def device_to_proto(report: DeviceReport) -> device_pb2.Device:
    """A device as it is now. What torch calls it stays inside."""
    device = report.device
    return device_pb2.Device(
        device_id=device.device_id,
        kind=KINDS.to_proto(device.kind),
        name=device.name,
        vendor=device.vendor,
        state=STATES.to_proto(report.state),
        explanation=report.explanation,
        is_default=report.is_default,
        aliases=device.aliases,
        total_memory=byte_figure(device.total_memory),
        driver_version=device.driver_version,
        runtime_version=device.runtime_version,
        hardware_id=device.hardware_id,
        unified_memory=device.unified_memory,
    )


def probe_to_proto(outcome: ProbeOutcome) -> device_pb2.ProbeOutcome:
    """What looking for a kind came to."""
    return device_pb2.ProbeOutcome(
        kind=KINDS.to_proto(outcome.kind),
        device_count=outcome.device_count,
        explanation=outcome.explanation,
    )


def listing_to_proto(listing: DeviceListing) -> device_pb2.ListDevicesResponse:
    """Every device that was asked for."""
    return device_pb2.ListDevicesResponse(
        devices=[device_to_proto(report) for report in listing.devices],
        default_device_id=listing.default_device_id,
        probes=[probe_to_proto(outcome) for outcome in listing.probes],
    )
