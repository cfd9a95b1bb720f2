"""Sessions on the wire: every event, every enum, and options back and forth."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from typing import get_args

import pytest
from google.protobuf.duration_pb2 import Duration

from deviceops.v1 import common_pb2, device_pb2, processing_pb2, session_pb2
from domains import values
from domains.errors import Failure, FieldViolation, Reason
from domains.session import types
from domains.session.convert import SessionConverter, options_from_proto, options_to_proto
from domains.values import DataType, Degradation, DegradationKind, ImageFormat

NOW = datetime(2030, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
IMAGE = types.ImageResult(1, 7, "a" * 64, ImageFormat.WEBP, 320, 256, 12)
FAILURE = Failure(
    8,
    Reason.DEVICE_OUT_OF_MEMORY,
    "no room",
    {"needed_bytes": "5"},
    (FieldViolation("settings.width", Reason.DIMENSIONS_INVALID, "too wide"),),
    1.5,
    "incident",
)
EVENTS: dict[str, types.Entry | types.Passing] = {
    "accepted": types.Accepted(
        types.SessionKind.GENERATION,
        "cpu:0",
        2,
        (types.Phase.QUEUED, types.Phase.DENOISING),
        (1, 2**32 - 1),
        25,
        NOW,
    ),
    "queue_moved": types.QueueMoved(0),
    "phase_started": types.PhaseStarted(types.Phase.DECODING, 0),
    "transfer_progress": types.TransferProgress("unet", 1, 2),
    "text_encoded": types.TextEncoded(False),
    "step_finished": types.StepFinished(0, 1, 2),
    "preview": types.Preview(0, 1, 64, 48, b"jpeg"),
    "image_decoded": types.ImageDecoded(0),
    "image_chunk": types.ImageChunk(0, 4, 10, b"data"),
    "image_finished": types.ImageFinished(IMAGE),
    "heartbeat": types.Heartbeat(None),
    "completed": types.Completed(
        (IMAGE,),
        (Degradation(DegradationKind.VAE_TILED, "why"),),
        {types.Phase.DENOISING: 1.25},
        2.5,
        "cpu:0",
        types.GenerationFacts(
            "m", DataType.BFLOAT16, DataType.FLOAT32, True, 25, {"torch": "2"}
        ),
    ),
    "failed": types.Failed(FAILURE, (IMAGE,)),
    "cancelled": types.Cancelled(Reason.CLIENT_DISCONNECTED, types.Phase.DENOISING, ()),
}


# Any type can be a report, and any message.
CONVERTER = SessionConverter(
    {int: lambda steps: device_pb2.OptimizationReport(changes=[{"setting": str(steps)}])}
)


def test_every_kind_of_event_has_its_place_in_the_contract() -> None:
    assert {type(event) for event in EVENTS.values()} == {
        *get_args(types.Entry),
        *get_args(types.Passing),
    }
    for name, event in EVENTS.items():
        message = CONVERTER.event(types.SessionEvent("s", 3, NOW, event))
        assert message.WhichOneof("event") == name
        assert (message.session_id, message.sequence) == ("s", 3)
        assert message.event_time.ToDatetime(UTC) == NOW


def test_every_field_of_an_event_arrives() -> None:
    def of(name: str) -> session_pb2.SessionEvent:
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
    assert of("image_finished").image_finished.image.format == common_pb2.IMAGE_FORMAT_WEBP
    completed = of("completed").completed
    assert completed.timings.denoise.ToTimedelta().total_seconds() == 1.25
    assert not completed.timings.HasField("decode")
    assert completed.generation.unet_data_type == common_pb2.DATA_TYPE_BFLOAT16
    assert completed.degradations[0].kind == common_pb2.DEGRADATION_KIND_VAE_TILED
    failure = of("failed").failed.failure
    assert failure.reason == common_pb2.ERROR_REASON_DEVICE_OUT_OF_MEMORY
    assert failure.violations[0].field == "settings.width"
    assert failure.retry_delay.ToTimedelta().total_seconds() == 1.5
    assert of("cancelled").cancelled.phase == session_pb2.PHASE_DENOISING


async def stream(report: object) -> AsyncGenerator[types.SessionEvent]:
    started = types.PhaseStarted(types.Phase.MEASURING)
    yield types.SessionEvent("s", 1, NOW, started)
    yield types.SessionEvent(
        "s", 2, NOW, types.Completed((), (), {}, 1.0, "cpu:0", None, report)
    )


async def test_a_report_comes_in_its_own_field_before_the_last_event() -> None:
    responses = CONVERTER.responses(stream(7), device_pb2.OptimizeDeviceResponse)

    phase, report, completed = [response async for response in responses]

    assert phase.event.phase_started.phase == session_pb2.PHASE_MEASURING
    assert report.WhichOneof("content") == "report"
    assert report.report.changes[0].setting == "7"
    packed = device_pb2.OptimizationReport()
    assert completed.event.completed.report.Unpack(packed)
    assert packed == report.report


@pytest.mark.parametrize(
    ("report", "response"),
    [
        (7, processing_pb2.WatchSessionResponse),
        (None, device_pb2.OptimizeDeviceResponse),
    ],
)
async def test_streams_without_a_place_for_a_report_have_it_in_the_last_event_alone(
    report: object, response: type
) -> None:
    responses = [one async for one in CONVERTER.responses(stream(report), response)]

    assert [one.event.sequence for one in responses] == [1, 2]
    assert responses[-1].event.completed.HasField("report") is (report is not None)


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
        types.SessionOptions(),
        types.SessionOptions(
            request_id="id",
            priority=types.Priority.HIGH,
            timeout_seconds=1.5,
            on_disconnect=types.OnDisconnect.DETACH,
            tags=("a", "b"),
            metadata={"k": "v"},
        ),
    ],
)
def test_options_survive_the_wire(options: types.SessionOptions) -> None:
    assert options_from_proto(options_to_proto(options)) == options


def test_absent_options_are_the_defaults() -> None:
    assert options_from_proto(session_pb2.SessionOptions()) == types.SessionOptions()


def test_a_duration_no_clock_knows_still_converts() -> None:
    message = session_pb2.SessionOptions(timeout=Duration(seconds=2**62, nanos=-(2**31)))

    assert options_from_proto(message).timeout_seconds > 1e18


def _enum_maps() -> Iterator[tuple[str, int]]:
    for name, wrapper in (
        ("SessionKind", session_pb2.SessionKind),
        ("SessionState", session_pb2.SessionState),
        ("Phase", session_pb2.Phase),
        ("Priority", session_pb2.Priority),
        ("OnDisconnect", session_pb2.OnDisconnect),
        ("ImageFormat", common_pb2.ImageFormat),
        ("DegradationKind", common_pb2.DegradationKind),
    ):
        yield name, len(wrapper.keys()) - 1


@pytest.mark.parametrize(("name", "count"), list(_enum_maps()))
def test_every_value_of_the_contract_has_a_member(name: str, count: int) -> None:
    twin = getattr(types, name, None) or getattr(values, name)
    assert len(twin) == count
