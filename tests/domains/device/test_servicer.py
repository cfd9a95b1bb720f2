"""DeviceService through a real channel, with the real core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import grpc
import pytest

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    device_pb2_grpc,
    errors_pb2,
    event_pb2,
    session_pb2,
)
from domains.device import convert
from domains.device.convert import REPORTS
from domains.device.errors import DeviceUnavailable
from domains.device.servicer import DeviceServicer
from domains.device.types import (
    DeviceEventKind,
    DeviceKind,
    DeviceState,
    Load,
    OptimizationProfile,
    WorkerStatus,
)
from domains.errors import Reason
from domains.session.convert import Starters
from domains.session.types import Cancelled
from tests.domains.device.conftest import Domain
from tests.domains.sessions import streams_of, until_final
from tests.domains.wire import channel_to, refusal
from tests.fakes.device import FakeProbe, card
from tests.fakes.device_runs import MOMENT, component, figures

Stub: TypeAlias = "device_pb2_grpc.DeviceServiceAsyncStub"


@pytest.fixture
def domain(make_domain: Callable[..., Domain]) -> Domain:
    return make_domain(
        probe=FakeProbe(card(0, hardware_id="GPU-1"), why="no such driver"),
        heartbeat_seconds=0.02,
    )


@pytest.fixture
async def stub(domain: Domain) -> AsyncIterator[Stub]:
    add = device_pb2_grpc.add_DeviceServiceServicer_to_server
    starters = Starters()
    servicer = DeviceServicer(domain.service, streams_of(domain.sessions, REPORTS, starters))
    servicer.register(starters)
    async with channel_to(add, servicer) as channel:
        yield device_pb2_grpc.DeviceServiceStub(channel)


async def test_list_devices_tells_everything_found_and_looked_for(stub: Stub) -> None:
    answer = await stub.ListDevices(device_pb2.ListDevicesRequest())

    first, second = answer.devices
    assert (first.device_id, second.device_id) == ("cuda:0", "cpu:0")
    assert first.is_default
    assert answer.default_device_id == "cuda:0"
    assert first.state == device_info_pb2.DEVICE_STATE_READY
    assert first.hardware_id == "GPU-1"
    assert "gpu" in first.aliases
    assert not first.total_memory.HasField("value_bytes")
    assert first.total_memory.quality == common_pb2.FIGURE_QUALITY_UNKNOWN
    assert second.total_memory.value_bytes == 16 << 30
    assert second.total_memory.source == "a fake"
    assert {probe.explanation for probe in answer.probes} == {"no such driver"}
    assert len(answer.probes) == 4
    assert answer.revision > 0


async def test_list_devices_filters_by_kind(stub: Stub) -> None:
    request = device_pb2.ListDevicesRequest(kind=device_info_pb2.DEVICE_KIND_CPU, refresh=True)

    answer = await stub.ListDevices(request)

    assert [device.device_id for device in answer.devices] == ["cpu:0"]
    assert list(answer.probes) == []


async def test_an_unknown_kind_is_refused_by_name(stub: Stub) -> None:
    refused = await refusal(stub.ListDevices(device_pb2.ListDevicesRequest(kind=99)))  # type: ignore[arg-type]

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "ENUM_VALUE_UNKNOWN"
    assert refused.fields == ("kind",)


async def test_get_device_takes_aliases_and_tells_the_workers_state(
    stub: Stub, domain: Domain
) -> None:
    domain.workers.set("cuda:0", DeviceState.RECOVERING, "its worker was lost")

    answer = await stub.GetDevice(device_pb2.GetDeviceRequest(device_id="GPU"))

    assert answer.device.device_id == "cuda:0"
    assert answer.device.state == device_info_pb2.DEVICE_STATE_RECOVERING
    assert answer.device.explanation == "its worker was lost"


async def test_get_device_without_an_id_is_the_default(stub: Stub) -> None:
    answer = await stub.GetDevice(device_pb2.GetDeviceRequest())

    assert answer.device.is_default


async def test_a_missing_device_is_not_found_with_the_probes_explanation(stub: Stub) -> None:
    refused = await refusal(stub.GetDevice(device_pb2.GetDeviceRequest(device_id="xpu:0")))

    assert refused.code is grpc.StatusCode.NOT_FOUND
    assert refused.reason == "DEVICE_NOT_FOUND"
    assert "no such driver" in refused.message


async def test_capabilities_are_told_as_measured(stub: Stub) -> None:
    answer = await stub.GetDeviceCapabilities(
        device_pb2.GetDeviceCapabilitiesRequest(device_id="gpu")
    )

    works, broken = answer.data_types
    assert answer.device_id == "cuda:0"
    assert (works.data_type, works.works) == (common_pb2.TENSOR_DATA_TYPE_FLOAT32, True)
    assert works.matmul_tflops == 2.5
    assert (broken.data_type, broken.works) == (common_pb2.TENSOR_DATA_TYPE_BFLOAT16, False)
    assert answer.largest_allocation.value_bytes == 3 << 30
    assert answer.host_to_device_gbps == 12.0
    assert answer.has_float64
    assert not answer.has_pinned_memory
    assert answer.measure_time.ToDatetime().year == 2030
    assert answer.software_versions == {"torch": "9.9"}


async def test_the_default_is_set_and_told(stub: Stub) -> None:
    answer = await stub.SetDefaultDevice(device_pb2.SetDefaultDeviceRequest(device_id="CPU"))

    assert (answer.device.device_id, answer.device.is_default) == ("cpu:0", True)
    listed = await stub.ListDevices(device_pb2.ListDevicesRequest())
    assert listed.default_device_id == "cpu:0"


async def test_a_default_must_be_named(stub: Stub) -> None:
    refused = await refusal(stub.SetDefaultDevice(device_pb2.SetDefaultDeviceRequest()))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "REQUIRED_FIELD_MISSING"
    assert refused.fields == ("device_id",)


async def test_memory_has_figures_with_sources_and_says_what_is_unknown(
    stub: Stub, domain: Domain
) -> None:
    domain.runs.told["cuda:0"] = figures()

    known = (await stub.GetDeviceMemory(device_pb2.GetDeviceMemoryRequest())).memory
    host = (
        await stub.GetDeviceMemory(device_pb2.GetDeviceMemoryRequest(device_id="cpu"))
    ).memory

    assert (known.free.value_bytes, known.free.source) == (600, "fake.free")
    assert known.used_by_others.value_bytes == 150
    assert known.used_by_others.quality == common_pb2.FIGURE_QUALITY_ESTIMATED
    assert (host.free.value_bytes, host.free.source) == (10 << 30, "main.available")
    assert host.used_by_others.value_bytes == 4 << 30
    assert not host.allocated.HasField("value_bytes")
    assert "no worker" in host.allocated.source


async def test_status_leaves_out_what_the_platform_does_not_tell(
    stub: Stub, domain: Domain
) -> None:
    domain.telemetry.load = Load(load=0.25)
    domain.workers.statuses["cuda:0"] = WorkerStatus(
        DeviceState.READY,
        process_id=77,
        restart_count=2,
        resident_bytes=1000,
        progress_time=MOMENT,
        software_versions={"torch": "9.9"},
    )
    domain.runs.told["cuda:0"] = figures(component("emoji"))

    answer = await stub.GetDeviceStatus(device_pb2.GetDeviceStatusRequest())

    assert answer.device.device_id == "cuda:0"
    assert answer.load == 0.25
    assert not answer.HasField("temperature_celsius")
    assert not answer.HasField("power_watts")
    assert (answer.worker.process_id, answer.worker.restart_count) == (77, 2)
    assert answer.worker.resident_memory.value_bytes == 1000
    assert not answer.worker.HasField("progress_time")  # it is idle
    assert answer.loaded_model_id == "emoji"
    assert answer.profile == device_info_pb2.OPTIMIZATION_PROFILE_BALANCED

    domain.workers.statuses["cuda:0"] = WorkerStatus(
        DeviceState.QUARANTINED, restart_count=2, resident_bytes=1000
    )
    ended = await stub.GetDeviceStatus(device_pb2.GetDeviceStatusRequest(device_id="cuda:0"))
    assert not ended.worker.resident_memory.HasField("value_bytes")


async def test_watching_tells_devices_then_changes_then_heartbeats(
    stub: Stub, domain: Domain
) -> None:
    await domain.service.inventory.list()
    call = stub.WatchDevices(device_pb2.WatchDevicesRequest())
    first = [await call.read() for _ in range(3)]
    silent = await call.read()
    domain.runs.change("cuda:0", DeviceState.RECOVERING, "it was killed")
    while (lost := await call.read()).kind == device_pb2.DEVICE_EVENT_KIND_HEARTBEAT:
        pass
    call.cancel()

    assert [(e.kind, e.device.device_id) for e in first] == [
        (device_pb2.DEVICE_EVENT_KIND_ADDED, "cuda:0"),
        (device_pb2.DEVICE_EVENT_KIND_ADDED, "cpu:0"),
        (device_pb2.DEVICE_EVENT_KIND_SNAPSHOT_END, ""),
    ]
    assert {event.revision for event in (*first, silent)} == {first[0].revision}
    assert silent.kind == device_pb2.DEVICE_EVENT_KIND_HEARTBEAT
    assert not silent.HasField("device")
    assert silent.HasField("event_time")
    assert lost.kind == device_pb2.DEVICE_EVENT_KIND_LOST
    assert lost.device.explanation == "it was killed"
    assert lost.revision == first[0].revision + 1
    assert lost.cause.reason == errors_pb2.ERROR_REASON_WORKER_LOST
    assert "it was killed" in lost.cause.message
    assert not first[0].HasField("cause")


async def test_a_client_that_lists_and_then_watches_misses_nothing(
    stub: Stub, domain: Domain
) -> None:
    listed = await stub.ListDevices(device_pb2.ListDevicesRequest())
    domain.runs.change("cuda:0", DeviceState.RECOVERING, "it was killed")

    request = device_pb2.WatchDevicesRequest(from_revision=listed.revision)
    call = stub.WatchDevices(request)
    missed = await call.read()
    call.cancel()

    assert (missed.kind, missed.device.device_id) == (
        device_pb2.DEVICE_EVENT_KIND_LOST,
        "cuda:0",
    )
    assert missed.revision == listed.revision + 1
    again = await stub.ListDevices(device_pb2.ListDevicesRequest())
    assert again.revision == missed.revision


async def test_changes_that_are_not_kept_are_refused(stub: Stub) -> None:
    for revision in (1, -1):
        request = device_pb2.WatchDevicesRequest(from_revision=revision)
        refused = await refusal(stub.WatchDevices(request).read())
        assert refused.code is grpc.StatusCode.OUT_OF_RANGE
        assert refused.reason == "EVENTS_EXPIRED"


async def test_an_optimisation_reports_in_its_end(stub: Stub) -> None:
    request = device_pb2.OptimizeDeviceRequest(
        profile=device_info_pb2.OPTIMIZATION_PROFILE_FAST
    )

    events = [answer.event async for answer in stub.OptimizeDevice(request)]

    report = events[-1].completed.optimization
    assert events[0].WhichOneof("event") == "accepted"
    assert report.profile == device_info_pb2.OPTIMIZATION_PROFILE_FAST
    assert [(c.setting, c.part) for c in report.changes] == [
        (device_info_pb2.OPTIMIZATION_SETTING_VAE_TILING, common_pb2.MODEL_PART_UNSPECIFIED)
    ]
    assert report.step_before.ToMilliseconds() == 500
    assert report.peak_memory_after.value_bytes == 100


async def test_events_come_as_the_request_asks(stub: Stub) -> None:
    only = session_pb2.DeliveryOptions(
        event_kinds=[session_pb2.SESSION_EVENT_KIND_PHASE_STARTED]
    )
    calls = (
        stub.OptimizeDevice(device_pb2.OptimizeDeviceRequest(delivery=only)),
        stub.RestartWorker(device_pb2.RestartWorkerRequest(delivery=only)),
    )

    for call in calls:
        kinds = {answer.event.WhichOneof("event") async for answer in call}
        assert kinds == {"accepted", "phase_started", "completed"}


async def test_wrong_options_are_refused_by_field(stub: Stub) -> None:
    options = session_pb2.WorkOptions(request_id="no uuid")
    calls = (
        stub.OptimizeDevice(device_pb2.OptimizeDeviceRequest(options=options)),
        stub.RestartWorker(device_pb2.RestartWorkerRequest(options=options)),
    )

    for call in calls:
        refused = await refusal(call.read())
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.reason == "REQUEST_ID_INVALID"
        assert refused.fields == ("options.request_id",)


async def test_a_restart_streams_its_session(stub: Stub, domain: Domain) -> None:
    request = device_pb2.RestartWorkerRequest(device_id="gpu", force=True)

    events = [answer.event async for answer in stub.RestartWorker(request)]

    phases = [e.phase_started.phase for e in events if e.WhichOneof("event") == "phase_started"]
    assert phases == [session_pb2.PHASE_DRAINING, session_pb2.PHASE_STARTING_WORKER]
    assert events[-1].WhichOneof("event") == "completed"
    assert domain.runs.restarted == [("cuda:0", True)]


async def test_a_failed_sessions_own_status_reaches_its_client(
    stub: Stub, domain: Domain
) -> None:
    """Also the second client's, whose call only finds the session."""
    domain.runs.error = DeviceUnavailable("cuda:0", "It died again.")
    options = session_pb2.WorkOptions(request_id="6f8b7a4e-5a59-4a37-9f0e-0d4bb9f0a111")
    request = device_pb2.RestartWorkerRequest(device_id="gpu", options=options)

    for _ in range(2):
        events: list[event_pb2.SessionEvent] = []

        async def follow(into: list[event_pb2.SessionEvent]) -> None:
            async for answer in stub.RestartWorker(request):
                into.append(answer.event)

        refused = await refusal(follow(events))
        failure = events[-1].failed.failure
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert failure.status_code == refused.code.value[0]
        assert refused.reason == "DEVICE_UNAVAILABLE"
        assert refused.message == failure.message


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(0.3, Reason.DEADLINE_EXPIRED), (60, Reason.CLIENT_DISCONNECTED)],
    ids=["deadline", "cancel"],
)
async def test_a_dropped_call_leaves_a_session_that_says_why(
    stub: Stub, domain: Domain, seconds: float, reason: Reason
) -> None:
    domain.runs.hold()
    call = stub.RestartWorker(device_pb2.RestartWorkerRequest(), timeout=seconds)
    await call.read()
    (session,) = domain.sessions.all()
    if reason is Reason.CLIENT_DISCONNECTED:
        await domain.runs.began.wait()
        call.cancel()
    await until_final(session)

    assert isinstance(session.log.terminal, Cancelled)
    assert session.log.terminal.reason is reason


def test_enums_map_completely() -> None:
    kinds = {convert.KINDS.to_proto(kind): kind for kind in DeviceKind}
    states = {convert.STATES.to_proto(state): state for state in DeviceState}

    profiles = {convert.PROFILES.to_proto(profile) for profile in OptimizationProfile}
    signals = {
        device_pb2.DEVICE_EVENT_KIND_HEARTBEAT,
        device_pb2.DEVICE_EVENT_KIND_SNAPSHOT_END,
    }
    happened = {convert.EVENTS.to_proto(kind) for kind in DeviceEventKind} | signals

    assert profiles == set(device_info_pb2.OptimizationProfile.values()) - {0}
    assert happened == set(device_pb2.DeviceEventKind.values()) - {0}
    assert set(kinds) == set(device_info_pb2.DeviceKind.values()) - {0}
    assert set(states) == set(device_info_pb2.DeviceState.values()) - {0}
    assert all(convert.KINDS.optional_from_proto(n) is kind for n, kind in kinds.items())
    assert all(convert.STATES.optional_from_proto(n) is state for n, state in states.items())
    assert convert.KINDS.optional_from_proto(0) is None
