"""Memory orders, figures and reports survive the link; absurd ones are refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceops.v1 import common_pb2, device_pb2
from deviceops.worker.v1 import worker_pb2
from domains.device.types import (
    DataTypeFacts,
    DeviceFigures,
    LoadedComponent,
    OptimizationChange,
    OptimizationProfile,
    OptimizationReport,
    OptimizationWork,
    ReleaseReport,
    ReleaseWork,
    SelfTestFacts,
    SelfTestWork,
)
from domains.errors import Reason, ResourceExhausted
from domains.memory.types import BufferRegion, Compare, Move, Segment, SegmentRegion
from domains.values import ByteFigure, DataType, FigureQuality
from server.worker import frames
from server.worker.frames import ProtocolError
from server.worker.messages import (
    decode_from_worker,
    decode_to_worker,
    encode_from_worker,
    encode_to_worker,
)

BYTES = st.integers(0, 1 << 50)
COUNT = st.integers(0, 2**63)
NAME = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
WHY = st.sampled_from(["torch.cuda.mem_get_info()", "nobody tells"])
FIGURE = st.builds(ByteFigure.unknown, WHY) | st.builds(
    ByteFigure,
    BYTES,
    st.sampled_from([FigureQuality.MEASURED, FigureQuality.ESTIMATED]),
    WHY,
)
TIME = st.integers(0, 4 * 10**15).map(  # microseconds
    lambda micros: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
)
COMPONENT = st.builds(
    LoadedComponent,
    NAME,
    NAME,
    FIGURE,
    st.sampled_from(["", *(member.value for member in DataType)]),
    TIME,
    st.booleans(),
)
COMPONENTS = st.lists(COMPONENT, max_size=3).map(tuple)
FIGURES = st.builds(
    DeviceFigures,
    *(7 * [FIGURE]),
    leased_bytes=BYTES,
    models=COMPONENTS,
    read_time=TIME,
)
SEGMENT = st.builds(Segment, st.just("/proc/17/fd/4"), COUNT, st.booleans())
REGION = st.builds(BufferRegion, NAME, COUNT) | st.builds(SegmentRegion, SEGMENT, COUNT)
ORDER = st.one_of(
    st.builds(frames.AllocateBuffer, NAME, COUNT),
    st.builds(frames.FreeBuffer, NAME),
    st.builds(Move, REGION, REGION, COUNT),
    st.builds(Compare, REGION, REGION, COUNT),
    st.builds(frames.Pin, SEGMENT),
    st.builds(frames.Unpin, SEGMENT),
    st.just(frames.ReleaseCached()),
)
ANSWER = st.one_of(
    st.builds(frames.MemoryProgress, BYTES),
    st.builds(frames.MemoryDone, BYTES),
)
SECONDS = st.integers(0, 10**12).map(lambda nanos: nanos / 1e9)
SENTENCES = st.lists(st.just("Something is odd."), max_size=3).map(tuple)
FACTS = st.builds(
    SelfTestFacts,
    data_types=st.lists(
        st.builds(
            DataTypeFacts,
            st.sampled_from([member.value for member in DataType]),
            st.booleans(),
            st.floats(0, math.inf),
            st.floats(0, 1e6),
        ),
        max_size=3,
    ).map(tuple),
    largest_allocation=FIGURE,
    attention_backends=st.sampled_from([(), ("flash", "math")]),
    has_float64=st.booleans(),
    host_to_device_gbps=st.floats(0, 1e6),
    device_to_host_gbps=st.floats(0, 1e6),
    has_pinned_memory=st.booleans(),
    has_compilation=st.booleans(),
    measure_time=TIME,
    software_versions=st.sampled_from([{}, {"torch": "2.13.0+cu128"}]),
    problems=SENTENCES,
)
OPTIMIZATION = st.builds(
    OptimizationReport,
    st.sampled_from(OptimizationProfile),
    st.sampled_from([(), (OptimizationChange("vae_tiling", "off", "on"),)]),
    SECONDS,
    SECONDS,
    FIGURE,
    FIGURE,
)
RELEASE = st.builds(ReleaseReport, COMPONENTS, COMPONENTS)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNKNOWN = ByteFigure.unknown("a test")


@given(order=ORDER, ticket=COUNT)
def test_orders_survive(order: frames.Order, ticket: int) -> None:
    frame = frames.MemoryOrder(ticket, order)
    assert decode_to_worker(encode_to_worker(frame)) == frame


@given(ticket=COUNT)
def test_cancels_survive(ticket: int) -> None:
    frame = frames.MemoryCancel(ticket)
    assert decode_to_worker(encode_to_worker(frame)) == frame


@given(answer=ANSWER, ticket=COUNT)
def test_answers_survive(answer: Any, ticket: int) -> None:
    frame = frames.MemoryAnswer(ticket, answer)
    assert decode_from_worker(encode_from_worker(frame)) == frame


def test_errors_of_orders_survive() -> None:
    error = ResourceExhausted(
        "No room.",
        reason=Reason.DEVICE_OUT_OF_MEMORY,
        metadata={"needed_bytes": "9", "free_bytes": "3"},
    )
    frame = decode_from_worker(encode_from_worker(frames.MemoryAnswer(7, error)))
    assert isinstance(frame, frames.MemoryAnswer)
    assert isinstance(frame.answer, ResourceExhausted)
    assert frame.answer.reason is Reason.DEVICE_OUT_OF_MEMORY
    assert frame.answer.metadata == {"needed_bytes": "9", "free_bytes": "3"}


@given(figures=FIGURES)
def test_figures_survive(figures: DeviceFigures) -> None:
    frame = frames.Beat(1, figures)
    assert decode_from_worker(encode_from_worker(frame)) == frame


@given(report=FACTS | OPTIMIZATION | RELEASE)
def test_reports_survive(report: frames.Report) -> None:
    frame = frames.Done("session", 3, report)
    again = decode_from_worker(encode_from_worker(frame))
    assert isinstance(again, frames.Done)
    if isinstance(report, OptimizationReport):
        assert isinstance(again.report, OptimizationReport)
        assert again.report.step_before == pytest.approx(report.step_before, abs=1e-9)
        assert again.report.step_after == pytest.approx(report.step_after, abs=1e-9)
        exact = replace(
            again.report, step_before=report.step_before, step_after=report.step_after
        )
        again = replace(again, report=exact)
    assert again == frame


@pytest.mark.parametrize(
    "work",
    [
        SelfTestWork(),
        OptimizationWork(OptimizationProfile.FAST, "model", Path("models", "model")),
        OptimizationWork(OptimizationProfile.BALANCED),
        ReleaseWork(),
        ReleaseWork(("one", "two"), reload=True),
    ],
)
def test_work_survives(work: frames.Work) -> None:
    again = decode_to_worker(encode_to_worker(frames.Run("session", 1, 5.0, work)))
    assert again == frames.Run("session", 1, 5.0, work)


def test_a_worker_that_holds_too_much_to_tell_tells_less() -> None:
    component = LoadedComponent("model", "unet", UNKNOWN, "", NOW)
    figures = DeviceFigures(
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        0,
        (component,) * 500,
        NOW,
    )
    frame = decode_from_worker(encode_from_worker(frames.Beat(1, figures)))
    assert isinstance(frame, frames.Beat)
    assert frame.figures is not None
    assert len(frame.figures.models) == 64


def _answer(**answer: Any) -> worker_pb2.FromWorker:
    return worker_pb2.FromWorker(memory=worker_pb2.MemoryAnswer(ticket=1, **answer))


def _figure(value: int | None = 1, quality: int = 1, source: str = "a") -> Any:
    return common_pb2.ByteFigure(value_bytes=value, quality=quality, source=source)  # type: ignore[arg-type]


def _beat(**fields: Any) -> worker_pb2.FromWorker:
    honest: dict[str, Any] = dict.fromkeys(
        (
            "total",
            "free",
            "allocated",
            "reserved",
            "peak_allocated",
            "largest_free",
            "inactive_split",
        ),
        _figure(),
    )
    figures = worker_pb2.DeviceFigures(**(honest | fields))
    return worker_pb2.FromWorker(beat=worker_pb2.Beat(resident_bytes=1, figures=figures))


def _component(**fields: Any) -> worker_pb2.LoadedComponent:
    honest = {"model_id": "m", "component": "unet", "size": _figure()}
    return worker_pb2.LoadedComponent(**(honest | fields))


def _facts(**fields: Any) -> worker_pb2.FromWorker:
    facts = device_pb2.GetDeviceCapabilitiesResponse(
        **({"largest_allocation": _figure()} | fields)
    )
    return worker_pb2.FromWorker(done=worker_pb2.Done(session_id="s", self_test=facts))


def _optimization(**fields: Any) -> worker_pb2.FromWorker:
    figures = {"peak_memory_before": _figure(), "peak_memory_after": _figure()}
    report = device_pb2.OptimizationReport(**({"profile": 1} | figures | fields))
    return worker_pb2.FromWorker(done=worker_pb2.Done(session_id="s", optimization=report))


@pytest.mark.parametrize(
    "message",
    [
        _answer(),
        _answer(progress={"done_bytes": 2**63}),
        _answer(done={"done_bytes": 2**60}),
        _answer(failed={"status_code": 0}),
        worker_pb2.FromWorker(beat=worker_pb2.Beat(resident_bytes=2**60)),
        _beat(total=_figure(value=-1)),
        _beat(free=_figure(value=2**60)),
        _beat(allocated=_figure(value=None)),
        _beat(reserved=_figure(quality=3)),
        _beat(peak_allocated=_figure(quality=0)),
        _beat(largest_free=_figure(quality=77)),
        _beat(inactive_split=_figure(source="")),
        _beat(inactive_split=_figure(source="a\nb")),
        _beat(inactive_split=_figure(source="x" * 5000)),
        _beat(leased_bytes=2**60),
        _beat(models=[_component()] * 65),
        _beat(models=[_component(component="../unet")]),
        _beat(models=[_component(model_id="a\x1b")]),
        _beat(models=[_component(data_type="float99")]),
        _beat(models=[_component(size=_figure(value=-5))]),
        _beat(read_time={"seconds": -1}),
        _beat(read_time={"seconds": 2**60}),
        _beat(read_time={"nanos": -1}),
        worker_pb2.FromWorker(done=worker_pb2.Done(session_id="s")),
        _facts(data_types=[{"data_type": 0}]),
        _facts(data_types=[{"data_type": 1, "max_relative_error": math.nan}]),
        _facts(data_types=[{"data_type": 1, "max_relative_error": -1.0}]),
        _facts(data_types=[{"data_type": 1, "matmul_tflops": math.inf}]),
        _facts(data_types=[{"data_type": 1}] * 65),
        _facts(attention_backends=["a b"]),
        _facts(host_to_device_gbps=-1.0),
        _facts(device_to_host_gbps=math.nan),
        _facts(problems=["x" * 2000]),
        _facts(problems=["x"] * 65),
        _facts(software_versions={"../x": "1"}),
        _facts(largest_allocation=_figure(value=None)),
        _optimization(profile=0),
        _optimization(profile=9),
        _optimization(changes=[{"setting": "a b"}]),
        _optimization(changes=[{"setting": "a", "before": "x\ny"}]),
        _optimization(step_before={"seconds": -1}),
        _optimization(peak_memory_after=_figure(quality=0)),
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_no_honest_worker_sends_is_refused(message: worker_pb2.FromWorker) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(message.SerializeToString())


def test_the_honest_forms_of_those_are_not() -> None:
    for message in (_beat(), _beat(models=[_component()]), _facts(), _optimization()):
        decode_from_worker(message.SerializeToString())
    decode_from_worker(_answer(progress={}).SerializeToString())
    decode_from_worker(_answer(done={}).SerializeToString())


@pytest.mark.parametrize(
    "message",
    [
        worker_pb2.ToWorker(memory=worker_pb2.MemoryOrder(ticket=1)),
        worker_pb2.ToWorker(memory=worker_pb2.MemoryOrder(move=worker_pb2.MoveBytes())),
        worker_pb2.ToWorker(
            run=worker_pb2.Run(optimization=worker_pb2.OptimizationWork(profile=0))  # type: ignore[arg-type]
        ),
    ],
)
def test_orders_that_mean_nothing_are_refused(message: worker_pb2.ToWorker) -> None:
    with pytest.raises(ProtocolError):
        decode_to_worker(message.SerializeToString())
