"""Devices between proto and domain values."""

from __future__ import annotations

from deviceops.v1 import device_info_pb2, device_pb2
from domains.changes import Signal, Told
from domains.conversions import (
    DATA_TYPES,
    MODEL_PARTS,
    EnumMap,
    byte_figure,
    digest,
    duration,
    timestamp,
)
from domains.device.core.optimizations import OptimizationRequest
from domains.device.core.restarts import RestartRequest
from domains.device.jobs import (
    AttentionBackend,
    Capabilities,
    OptimizationReport,
    OptimizationSetting,
)
from domains.device.types import (
    DeviceChoice,
    DeviceEvent,
    DeviceEventKind,
    DeviceKind,
    DeviceListing,
    DeviceMemory,
    DeviceReport,
    DeviceState,
    DeviceStatus,
    NamedDevice,
    OptimizationProfile,
    Placement,
    ProbeOutcome,
    WorkerStatus,
)
from domains.session.convert import Reports, failure_to_proto, options_from_proto
from domains.values import ByteFigure

KINDS = EnumMap(DeviceKind, device_info_pb2.DeviceKind, "DEVICE_KIND_")
STATES = EnumMap(DeviceState, device_info_pb2.DeviceState, "DEVICE_STATE_")
EVENTS = EnumMap(DeviceEventKind, device_pb2.DeviceEventKind, "DEVICE_EVENT_KIND_")
PROFILES = EnumMap(
    OptimizationProfile, device_info_pb2.OptimizationProfile, "OPTIMIZATION_PROFILE_"
)
ATTENTION = EnumMap(AttentionBackend, device_pb2.AttentionBackend, "ATTENTION_BACKEND_")
SETTINGS = EnumMap(
    OptimizationSetting, device_info_pb2.OptimizationSetting, "OPTIMIZATION_SETTING_"
)

_RESIDENT = "psutil.Process().memory_info().rss"


def device_to_proto(report: DeviceReport) -> device_info_pb2.DeviceInfo:
    """A device as it is now. What torch calls it stays inside."""
    device = report.device
    return device_info_pb2.DeviceInfo(
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


def listing_to_proto(listing: DeviceListing, revision: int) -> device_pb2.ListDevicesResponse:
    """Every device that was asked for, as of a revision."""
    return device_pb2.ListDevicesResponse(
        devices=[device_to_proto(report) for report in listing.devices],
        default_device_id=listing.default_device_id,
        probes=[probe_to_proto(outcome) for outcome in listing.probes],
        revision=revision,
    )


def capabilities_to_proto(
    capabilities: Capabilities,
) -> device_pb2.GetDeviceCapabilitiesResponse:
    """What a device can do."""
    facts = capabilities.facts
    return device_pb2.GetDeviceCapabilitiesResponse(
        device_id=capabilities.device_id,
        data_types=[
            device_pb2.DataTypeCapability(
                data_type=DATA_TYPES.to_proto(each.data_type),
                works=each.works,
                max_relative_error=each.max_relative_error,
                matmul_tflops=each.matmul_tflops,
            )
            for each in facts.data_types
        ],
        largest_allocation=byte_figure(facts.largest_allocation),
        attention_backends=map(ATTENTION.to_proto, facts.attention_backends),
        has_float64=facts.has_float64,
        host_to_device_gbps=facts.host_to_device_gbps,
        device_to_host_gbps=facts.device_to_host_gbps,
        has_pinned_memory=facts.has_pinned_memory,
        has_compilation=facts.has_compilation,
        measure_time=timestamp(facts.measure_time),
        software_versions=facts.software_versions,
        problems=facts.problems,
    )


def memory_to_proto(memory: DeviceMemory) -> device_info_pb2.DeviceMemory:
    """A device's memory."""
    return device_info_pb2.DeviceMemory(
        device_id=memory.device_id,
        total=byte_figure(memory.total),
        free=byte_figure(memory.free),
        allocated=byte_figure(memory.allocated),
        reserved=byte_figure(memory.reserved),
        used_by_others=byte_figure(memory.used_by_others),
        peak_allocated=byte_figure(memory.peak_allocated),
    )


def status_to_proto(status: DeviceStatus) -> device_pb2.GetDeviceStatusResponse:
    """What a device is doing; what its platform does not tell stays absent."""
    return device_pb2.GetDeviceStatusResponse(
        device=device_to_proto(status.report),
        load=status.load.load,
        temperature_celsius=status.load.temperature_celsius,
        power_watts=status.load.power_watts,
        queue_depth=status.queue_depth,
        session_id=status.session_id,
        worker=_worker(status.worker, busy=bool(status.session_id)),
        loaded_model_id=status.loaded_model_id,
        profile=PROFILES.to_proto(status.profile),
    )


def told_to_proto(told: Told[DeviceEvent]) -> device_pb2.WatchDevicesResponse:
    """What a watcher is told: something that happened to a device, or a signal."""
    message = device_pb2.WatchDevicesResponse(
        revision=told.revision, event_time=timestamp(told.event_time)
    )
    match told.what:
        case Signal.SNAPSHOT_END:
            message.kind = device_pb2.DEVICE_EVENT_KIND_SNAPSHOT_END
        case Signal.HEARTBEAT:
            message.kind = device_pb2.DEVICE_EVENT_KIND_HEARTBEAT
        case DeviceEvent(kind, report, cause):
            message.kind = EVENTS.to_proto(kind)
            message.device.CopyFrom(device_to_proto(report))
            if cause is not None:
                message.cause.CopyFrom(failure_to_proto(cause))
    return message


def optimization_from_proto(message: device_pb2.OptimizeDeviceRequest) -> OptimizationRequest:
    """What to apply, as a client sent it.

    Raises:
        InvalidArgument: ENUM_VALUE_UNKNOWN.
    """
    return OptimizationRequest(
        device_id=message.device_id,
        profile=PROFILES.from_proto(
            message.profile, OptimizationProfile.BALANCED, field="profile"
        ),
        model_id=message.model_id,
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def optimization_to_proto(report: OptimizationReport) -> device_info_pb2.OptimizationReport:
    """A profile's effect."""
    return device_info_pb2.OptimizationReport(
        profile=PROFILES.to_proto(report.profile),
        changes=[
            device_info_pb2.OptimizationChange(
                setting=SETTINGS.to_proto(change.setting),
                part=MODEL_PARTS.to_proto(change.part),
                before=change.before,
                after=change.after,
            )
            for change in report.changes
        ],
        step_before=duration(report.step_before),
        step_after=duration(report.step_after),
        peak_memory_before=byte_figure(report.peak_memory_before),
        peak_memory_after=byte_figure(report.peak_memory_after),
    )


def restart_from_proto(message: device_pb2.RestartWorkerRequest) -> RestartRequest:
    """Whose worker to replace, as a client sent it."""
    return RestartRequest(
        device_id=message.device_id,
        force=message.force,
        options=options_from_proto(message.options),
        digest=digest(message),
    )


def _worker(worker: WorkerStatus, *, busy: bool) -> device_pb2.WorkerStatus:
    resident = ByteFigure.unknown("the worker has not told it")
    if not worker.process_id:
        resident = ByteFigure.unknown("there is no worker process")
    elif worker.resident_bytes:
        resident = ByteFigure.measured(worker.resident_bytes, _RESIDENT)
    return device_pb2.WorkerStatus(
        process_id=worker.process_id,
        start_time=timestamp(worker.start_time),
        restart_count=worker.restart_count,
        heartbeat_time=timestamp(worker.heartbeat_time),
        progress_time=timestamp(worker.progress_time) if busy else None,
        resident_memory=byte_figure(resident),
        software_versions=worker.software_versions,
    )


REPORTS: Reports = {OptimizationReport: optimization_to_proto}
"""What sessions of this domain report, as their messages."""


def placement_from_proto(message: device_info_pb2.DevicePlacement) -> Placement:
    """On which device work shall run, unchecked.

    Raises:
        InvalidArgument: ENUM_VALUE_UNKNOWN.
    """
    if message.HasField("device_id"):
        return NamedDevice(message.device_id)
    return choice_from_proto(message.any, "placement.any")


def choice_from_proto(message: device_info_pb2.DeviceChoice, path: str) -> DeviceChoice:
    """Some devices, unchecked; `path` is where they stand in the request.

    Raises:
        InvalidArgument: ENUM_VALUE_UNKNOWN.
    """
    return DeviceChoice(
        tuple(message.device_ids),
        tuple(
            kind
            for position, number in enumerate(message.kinds)
            if (kind := KINDS.optional_from_proto(number, field=f"{path}.kinds[{position}]"))
        ),
    )
