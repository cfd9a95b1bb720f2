"""Sessions on the wire: every event, every enum, and options back and forth."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from typing import get_args

import pytest
from google.protobuf.duration_pb2 import Duration

from deviceops.v1 import (
    common_pb2,
    device_info_pb2,
    device_pb2,
    errors_pb2,
    event_pb2,
    processing_pb2,
    session_pb2,
)
from domains import values
from domains.errors import (
    Failure,
    FeatureNotBuilt,
    FieldViolation,
    InvalidArgument,
    Reason,
)
from domains.session import turns, types
from domains.session.convert import (
    SessionConverter,
    checked_delivery,
    options_from_proto,
    options_to_proto,
    snapshot_to_proto,
)
from domains.session.convert.sharing import SharedResponses
from domains.session.views import SessionSnapshot
from domains.values import (
    ByteFigure,
    Degradation,
    DegradationKind,
    ImageFileFormat,
    ModelPart,
    PlacementDecision,
)

NOW = datetime(2030, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
IMAGE = types.ImageResult(1, 7, "a" * 64, ImageFileFormat.WEBP, 320, 256, 12)
FAILURE = Failure(
    8,
    Reason.DEVICE_OUT_OF_MEMORY,
    "no room",
    {"needed_bytes": "5"},
    (FieldViolation("settings.width", Reason.DIMENSIONS_INVALID, "too wide"),),
    1.5,
    "incident",
)
LOST = Failure(14, Reason.WORKER_LOST, "it is gone")
DEGRADED = Degradation(DegradationKind.VAE_TILED, "why")
EVENTS: dict[str, types.Entry | types.Passing] = {
    "accepted": types.Accepted(
        types.SessionKind.GENERATION,
        2,
        (types.Phase.QUEUED, types.Phase.DENOISING),
        (1, 2**32 - 1),
        25,
        NOW,
        NOW,
    ),
    "queue_moved": types.QueueMoved(0, NOW),
    "paused": turns.Paused("lunch", "mary"),
    "resumed": turns.Resumed("mary"),
    "yielded": turns.Yielded(turns.YieldReason.TIME_SLICE, 7, 2),
    "retried": turns.Retried(LOST, 2),
    "phase_started": types.PhaseStarted(types.Phase.DECODING, 0),
    "transfer_progress": types.TransferProgress("unet", 1, 2),
    "text_encoded": types.TextEncoded(False),
    "step_finished": types.StepFinished(0, 1, 2),
    "preview": types.Preview(0, 1, 64, 48, b"jpeg"),
    "image_decoded": types.ImageDecoded(0),
    "image_chunk": types.ImageChunk(0, 4, 10, b"data"),
    "image_finished": types.ImageFinished(IMAGE),
    "item_finished": types.ItemFinished(
        "pear",
        3,
        1,
        9,
        (IMAGE,),
        FAILURE,
        "drawn",
        (DEGRADED,),
    ),
    "heartbeat": types.Heartbeat(None),
    "completed": types.Completed(
        (IMAGE,),
        (Degradation(DegradationKind.VAE_TILED, "why", ModelPart.VAE),),
        {types.Phase.DENOISING: 1.25},
        2.5,
        pause_seconds=0.5,
        peak_memory=ByteFigure.measured(7, "counted"),
        placement=PlacementDecision.named("cpu:0"),
    ),
    "failed": types.Failed(FAILURE, (IMAGE,)),
    "cancelled": types.Cancelled(
        Reason.CANCELLED_BY_CLIENT, types.Phase.DENOISING, (), "not needed", "mary"
    ),
}


# Any type can be a report, and any message that has a place.
CONVERTER = SessionConverter(
    {
        int: lambda profile: device_info_pb2.OptimizationReport(profile=profile),
        str: lambda name: event_pb2.GenerationFacts(software_versions={"torch": name}),
    }
)


def test_every_kind_of_event_has_its_place_in_the_contract() -> None:
    assert {type(event) for event in EVENTS.values()} == {
        *get_args(types.Entry),
        *get_args(types.Passing),
    } - {types.PieceFinished}
    for name, event in EVENTS.items():
        message = CONVERTER.event(types.SessionEvent("s", 3, NOW, event))
        assert message.WhichOneof("event") == name
        assert (message.session_id, message.sequence) == ("s", 3)
        assert message.event_time.ToDatetime(UTC) == NOW


def test_pieces_of_a_chain_come_as_items() -> None:
    for piece, name in ((types.Piece.TILE, "tile"), (types.Piece.STEP, "step")):
        event = types.PieceFinished(0, piece, 2, 5)
        told = CONVERTER.event(types.SessionEvent("s", 3, NOW, event)).item_finished
        assert (told.item_id, told.done_count, told.total_count) == (name, 2, 5)


def test_every_field_of_an_event_arrives() -> None:
    def of(name: str) -> event_pb2.SessionEvent:
        return CONVERTER.event(types.SessionEvent("s", 3, NOW, EVENTS[name]))

    accepted = of("accepted").accepted
    assert list(accepted.seeds) == [1, 2**32 - 1]
    assert list(accepted.expected_phases) == [
        session_pb2.PHASE_QUEUED,
        session_pb2.PHASE_DENOISING,
    ]
    assert (accepted.queue_position, accepted.steps) == (2, 25)
    assert of("phase_started").phase_started.HasField("image_index")
    assert of("transfer_progress").transfer_progress.item == "unet"
    assert of("image_chunk").image_chunk.offset_bytes == 4
    assert of("image_finished").image_finished.image.format == common_pb2.IMAGE_FILE_FORMAT_WEBP
    item = of("item_finished").item_finished
    assert (item.item_id, item.done_count, item.failed_count, item.total_count) == (
        "pear",
        3,
        1,
        9,
    )
    assert item.failure.reason == errors_pb2.ERROR_REASON_DEVICE_OUT_OF_MEMORY
    assert item.generation.software_versions["torch"] == "drawn"
    assert item.degradations[0].kind == common_pb2.DEGRADATION_KIND_VAE_TILED
    assert item.images[0].artifact_id == IMAGE.artifact_id
    completed = of("completed").completed
    assert completed.timings.denoise.ToTimedelta().total_seconds() == 1.25
    assert not completed.timings.HasField("decode")
    assert completed.placement.device_id == "cpu:0"
    assert completed.image_count == len(completed.images) == 1
    assert completed.degradations[0].kind == common_pb2.DEGRADATION_KIND_VAE_TILED
    assert completed.degradations[0].part == common_pb2.MODEL_PART_VAE
    failure = of("failed").failed.failure
    assert failure.reason == errors_pb2.ERROR_REASON_DEVICE_OUT_OF_MEMORY
    assert failure.violations[0].field == "settings.width"
    assert failure.violations[0].reason == "DIMENSIONS_INVALID"
    assert failure.retry_delay.ToTimedelta().total_seconds() == 1.5
    cancelled = of("cancelled").cancelled
    assert cancelled.phase == session_pb2.PHASE_DENOISING
    assert (cancelled.reason_text, cancelled.cancelled_by) == ("not needed", "mary")
    assert of("yielded").yielded == event_pb2.SessionYielded(
        reason=event_pb2.YIELD_REASON_TIME_SLICE, kept_steps=7, queue_position=2
    )
    retried = of("retried").retried
    assert retried.retry_count == 2
    assert retried.cause.reason == errors_pb2.ERROR_REASON_WORKER_LOST
    assert of("paused").paused == event_pb2.SessionPaused(reason_text="lunch", paused_by="mary")
    assert of("resumed").resumed.resumed_by == "mary"
    assert of("queue_moved").queue_moved.estimated_start_time.ToDatetime(UTC) == NOW
    assert accepted.queue_deadline.ToDatetime(UTC) == NOW
    assert accepted.estimated_end_time.ToDatetime(UTC) == NOW
    assert completed.timings.pause.ToTimedelta().total_seconds() == 0.5
    assert completed.peak_memory.value_bytes == 7


async def stream(report: object) -> AsyncGenerator[types.SessionEvent]:
    started = types.PhaseStarted(types.Phase.MEASURING)
    yield types.SessionEvent("s", 1, NOW, started)
    yield types.SessionEvent("s", 2, NOW, types.Completed((), (), {}, 1.0, report))


@pytest.mark.parametrize(
    ("report", "field"), [(2, "optimization"), ("2.13", "generation"), (None, None)]
)
async def test_a_report_is_in_the_last_event_in_the_field_of_its_type(
    report: object, field: str | None
) -> None:
    responses = CONVERTER.responses(stream(report), device_pb2.OptimizeDeviceResponse)

    phase, last = [response.event async for response in responses]

    assert phase.phase_started.phase == session_pb2.PHASE_MEASURING
    set_fields = {each.name for each, _ in last.completed.ListFields()}
    assert set_fields & {"optimization", "generation"} == ({field} if field else set())
    if field == "optimization":
        assert last.completed.WhichOneof("report") == field
        assert last.completed.optimization.profile == 2


async def test_the_same_event_reaches_those_who_watch() -> None:
    (_, run), (_, watched) = [
        [one.event async for one in CONVERTER.responses(stream(2), response)]
        for response in (device_pb2.OptimizeDeviceResponse, processing_pb2.WatchSessionResponse)
    ]

    assert run == watched


async def test_an_entry_is_converted_once_for_all_who_watch() -> None:
    reports: list[object] = []

    def report(value: int) -> device_info_pb2.OptimizationReport:
        reports.append(value)
        return device_info_pb2.OptimizationReport(profile=value)

    converter = SessionConverter({int: report})
    events = [event async for event in stream(2)]

    async def again() -> AsyncGenerator[types.SessionEvent]:
        for event in events:
            yield event

    first, second = [
        [one async for one in converter.responses(again(), processing_pb2.WatchSessionResponse)]
        for _ in range(2)
    ]
    assert reports == [2]
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, True]
    (run,) = [
        one async for one in converter.responses(again(), device_pb2.OptimizeDeviceResponse)
    ][1:]
    assert isinstance(run, device_pb2.OptimizeDeviceResponse)
    assert run.event == first[1].event
    equal = [event async for event in stream(2)]  # of another session, as far as anybody knows
    assert converter._shared.of(equal[1], processing_pb2.WatchSessionResponse) is not first[1]


def test_what_passes_is_made_for_each_and_what_is_shared_is_not_kept_for_long() -> None:
    shared, response = SharedResponses(CONVERTER.event), processing_pb2.WatchSessionResponse
    preview = types.SessionEvent("s", 1, NOW, EVENTS["preview"])
    assert shared.of(preview, response) is not shared.of(preview, response)
    entries = [types.SessionEvent("s", 1, NOW, EVENTS["step_finished"]) for _ in range(33)]
    made = [shared.of(entry, response) for entry in entries]
    assert [shared.of(entry, response) for entry in entries[1:]] == made[1:]
    assert shared.of(entries[-1], response) is made[-1]
    assert shared.of(entries[0], response) is not made[0]


async def test_a_stream_of_responses_closes_its_session_stream() -> None:
    events = stream(7)
    responses = CONVERTER.responses(events, device_pb2.OptimizeDeviceResponse)
    await anext(responses)
    await responses.aclose()

    with pytest.raises(StopAsyncIteration):
        await anext(events)


def test_only_a_second_call_is_told_that_the_session_existed() -> None:
    for existing in (False, True):
        event = types.SessionEvent("s", 1, NOW, EVENTS["accepted"], existing)
        assert CONVERTER.event(event).accepted.existing is existing


@pytest.mark.parametrize(
    "options",
    [
        types.WorkOptions(),
        types.WorkOptions(
            request_id="id",
            priority=types.Priority.HIGH,
            queue_timeout_seconds=2.5,
            run_timeout_seconds=1.5,
            retention_seconds=60.5,
            on_disconnect=types.OnDisconnect.DETACH,
            tags=("a", "b"),
            metadata={"k": "v"},
        ),
    ],
)
def test_options_survive_the_wire(options: types.WorkOptions) -> None:
    assert options_from_proto(options_to_proto(options)) == options


def test_absent_options_are_the_defaults() -> None:
    assert options_from_proto(session_pb2.WorkOptions()) == types.WorkOptions()


def test_a_duration_no_clock_knows_still_converts() -> None:
    message = session_pb2.WorkOptions(run_timeout=Duration(seconds=2**62, nanos=-(2**31)))

    assert options_from_proto(message).run_timeout_seconds > 1e18


def _enum_maps() -> Iterator[tuple[str, int]]:
    for name, wrapper in (
        ("SessionKind", session_pb2.SessionKind),
        ("SessionState", session_pb2.SessionState),
        ("Phase", session_pb2.Phase),
        ("Priority", session_pb2.Priority),
        ("OnDisconnect", session_pb2.OnDisconnect),
        ("ModelPart", common_pb2.ModelPart),
        ("DegradationKind", common_pb2.DegradationKind),
    ):
        yield name, len(wrapper.keys()) - 1


@pytest.mark.parametrize(("name", "count"), list(_enum_maps()))
def test_every_value_of_the_contract_has_a_member(name: str, count: int) -> None:
    twin = getattr(types, name, None) or getattr(values, name)
    assert len(twin) == count


def test_delivery_arrives() -> None:
    message = session_pb2.DeliveryOptions(
        omit_image_data=True,
        previews=session_pb2.PreviewSettings(every_steps=3),
        event_kinds=[session_pb2.SESSION_EVENT_KIND_IMAGE_FINISHED],
        step_interval=Duration(nanos=500_000_000),
    )

    delivery = checked_delivery(message, "delivery")

    assert not delivery.image_data
    assert delivery.previews == types.PreviewSettings(3, 256)
    assert delivery.kinds == (types.EventKind.IMAGE_FINISHED,)
    assert delivery.step_interval_seconds == 0.5
    assert checked_delivery(session_pb2.DeliveryOptions(), "delivery") == types.Delivery()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"previews": {"every_steps": 151}}, "delivery.previews.every_steps"),
        ({"previews": {"max_edge_pixels": 63}}, "delivery.previews.max_edge_pixels"),
        ({"step_interval": Duration(seconds=61)}, "delivery.step_interval"),
        ({"event_kinds": [99]}, "delivery.event_kinds[0]"),
    ],
)
def test_delivery_that_breaks_a_rule_is_refused_by_field(
    message: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_delivery(session_pb2.DeliveryOptions(**message), "delivery")

    assert [violation.field for violation in caught.value.violations] == [field]


def test_previews_in_a_format_that_is_not_built_are_refused() -> None:
    message = session_pb2.DeliveryOptions(
        previews=session_pb2.PreviewSettings(format=common_pb2.IMAGE_FILE_FORMAT_WEBP)
    )

    with pytest.raises(FeatureNotBuilt):
        checked_delivery(message, "delivery")


def test_every_field_of_a_session_arrives() -> None:
    snapshot = SessionSnapshot(
        session_id="s",
        kind=types.SessionKind.GENERATION,
        state=types.SessionState.FAILED,
        phase=types.Phase.DECODING,
        device_id="cpu:0",
        model_id="m",
        queue_position=1,
        progress=0.5,
        first_sequence=2,
        last_sequence=3,
        create_time=NOW,
        start_time=NOW,
        end_time=NOW,
        expire_time=NOW,
        options=types.WorkOptions(metadata={"a": "b"}),
        failure=FAILURE,
        images=(IMAGE,),
        owner="me",
        parent_session_id="p",
        placement=PlacementDecision.named("cpu:0"),
        estimated_start_time=NOW,
        estimated_end_time=NOW,
        peak_memory=ByteFigure.unknown("nobody looks"),
        retry_count=2,
        method="InferenceService.Generate",
    )

    session = snapshot_to_proto(snapshot, full=True)

    assert {field.name for field, _ in session.ListFields()} == {
        field.name for field in session_pb2.Session.DESCRIPTOR.fields
    }
    assert (session.retry_count, session.method) == (2, "InferenceService.Generate")
