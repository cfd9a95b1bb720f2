"""Frames survive the way there and back; what no honest worker sends is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deviceops.v1 import session_pb2
from deviceops.worker.v1 import worker_pb2
from domains import errors
from domains.errors import KINDS, DomainError, FieldViolation, Reason
from domains.inference.types import (
    GenerationReport,
    GenerationWork,
    OutputSettings,
    PrecisionMode,
    PreviewSettings,
    Scheduler,
    SchedulerSettings,
    SigmaSpacing,
    Timings,
)
from domains.session import types
from domains.values import DataType, Degradation, DegradationKind, ImageFormat
from server.worker import frames
from server.worker.frames import ProtocolError
from server.worker.link import MAX_FRAME_BYTES
from server.worker.messages import (
    decode_from_worker,
    decode_to_worker,
    encode_from_worker,
    encode_to_worker,
)

COUNT = st.integers(0, 2**32 - 1)
FRACTION = st.floats(allow_nan=False, allow_infinity=False)
PROMPT = st.text(max_size=200)
INDEX = st.integers(0, 9)
EDGE = st.integers(1, 2048)

WORK = st.builds(
    GenerationWork,
    model_id=PROMPT,
    model_path=st.just(Path("models", "emoji-xl")),
    prompt=PROMPT,
    negative_prompt=PROMPT,
    width=COUNT,
    height=COUNT,
    steps=COUNT,
    guidance_scale=FRACTION,
    scheduler=st.builds(
        SchedulerSettings, st.sampled_from(Scheduler), st.sampled_from(SigmaSpacing), FRACTION
    ),
    seeds=st.lists(st.integers(0, 2**64 - 1), max_size=9).map(tuple),
    prompt_2=st.none() | PROMPT,
    negative_prompt_2=st.none() | PROMPT,
    guidance_rescale=FRACTION,
    clip_skip=COUNT,
    precision=st.sampled_from(PrecisionMode),
    preview=st.builds(PreviewSettings, COUNT, COUNT),
    output=st.builds(
        OutputSettings, st.sampled_from(ImageFormat), COUNT, st.booleans(), st.booleans()
    ),
)
FILE = st.builds(
    frames.SpooledFile,
    name=st.from_regex(r"[0-9]{1,9}-[0-9]\.(png|jpeg|webp)", fullmatch=True),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    size_bytes=st.integers(1, 2**28),
    image_index=INDEX,
    seed=st.integers(0, 2**64 - 1),
    width=EDGE,
    height=EDGE,
    format=st.sampled_from(ImageFormat),
)
EVENT = st.one_of(
    st.none(),
    st.builds(types.PhaseStarted, st.sampled_from(types.Phase), st.none() | INDEX),
    st.integers(0, 2**60).flatmap(
        lambda total: st.builds(
            types.TransferProgress,
            st.just("text_encoder_2"),
            st.integers(0, total),
            st.just(total),
        )
    ),
    st.builds(types.TextEncoded, st.booleans()),
    st.integers(1, 300).flatmap(
        lambda steps: st.builds(
            types.StepFinished, INDEX, st.integers(1, steps), st.just(steps)
        )
    ),
    st.builds(types.Preview, INDEX, st.integers(0, 300), EDGE, EDGE, st.binary(min_size=1)),
    st.builds(types.ImageDecoded, INDEX),
    FILE,
)
SECONDS = st.floats(0, 1e6)
REPORT = st.builds(
    GenerationReport,
    st.builds(Timings, SECONDS, SECONDS, SECONDS, SECONDS, SECONDS),
    st.sampled_from(DataType),
    st.sampled_from(DataType),
    st.booleans(),
    st.lists(
        st.builds(Degradation, st.sampled_from(DegradationKind), st.just("Some reason.")),
        max_size=3,
    ).map(tuple),
)


@given(work=WORK, remaining=st.floats(0, 1e6))
def test_work_survives(work: GenerationWork, remaining: float) -> None:
    order = frames.Run("session-1", 3, remaining, work)
    again = decode_to_worker(encode_to_worker(order))
    assert isinstance(again, frames.Run)
    assert again.work == work
    assert (again.session_id, again.epoch) == ("session-1", 3)
    assert again.remaining == pytest.approx(remaining, abs=0.0006)


def test_every_field_of_work_is_told_apart_from_the_others() -> None:
    fields = set(GenerationWork.__dataclass_fields__)
    message = set(worker_pb2.GenerationWork.DESCRIPTOR.fields_by_name)
    # Everything the engine gets crosses the link; a new field must be added here too.
    assert fields - message == set()


@pytest.mark.parametrize("order", [frames.Cancel("session-1"), frames.Shutdown()])
def test_orders_survive(order: frames.ToWorker) -> None:
    assert decode_to_worker(encode_to_worker(order)) == order


@given(event=EVENT)
def test_events_survive(event: Any) -> None:
    frame = frames.Progress("session-1", 3, event)
    assert decode_from_worker(encode_from_worker(frame)) == frame


@given(report=REPORT)
def test_reports_survive(report: GenerationReport) -> None:
    frame = frames.Done("session-1", 3, report)
    assert decode_from_worker(encode_from_worker(frame)) == frame


@pytest.mark.parametrize(
    "frame",
    [
        frames.Hello(1, "cuda:0", 4711, {"torch": "2.13.0+cu128", "python": "3.11.7"}),
        frames.Beat(1 << 40),
    ],
)
def test_signs_of_life_survive(frame: frames.FromWorker) -> None:
    assert decode_from_worker(encode_from_worker(frame)) == frame


@pytest.mark.parametrize("kind", list(KINDS.values()))
@pytest.mark.parametrize("reason", [Reason.WORKER_LOST, Reason.INTERNAL])
def test_errors_survive_as_their_kind(kind: type[DomainError], reason: Reason) -> None:
    error = kind(
        "It failed; try again.",
        reason=reason,
        metadata={"free_bytes": "12"},
        violations=[FieldViolation("settings.loras[1].weight", reason, "Too much.")],
        retry_after=2.5,
    )
    frame = frames.Failed("session-1", 3, error, sticky=True, traceback="line\nline")
    again = decode_from_worker(encode_from_worker(frame))
    assert isinstance(again, frames.Failed)
    assert type(again.error) is kind
    assert (again.session_id, again.epoch, again.sticky) == ("session-1", 3, True)
    assert again.traceback == "line\nline"
    for fact in ("message", "reason", "metadata", "violations", "retry_after"):
        assert getattr(again.error, fact) == getattr(error, fact)


def test_every_reason_crosses_the_link() -> None:
    for reason in Reason:
        frame = frames.Failed("session-1", 3, errors.Internal("It failed.", reason=reason))
        again = decode_from_worker(encode_from_worker(frame))
        assert isinstance(again, frames.Failed)
        assert again.error.reason is reason


def test_a_domains_own_error_comes_back_as_its_kind() -> None:
    class TooSmall(errors.FailedPrecondition):
        pass

    frame = frames.Failed("session-1", 3, TooSmall("It is too small."))
    again = decode_from_worker(encode_from_worker(frame))
    assert isinstance(again, frames.Failed)
    assert type(again.error) is errors.FailedPrecondition
    assert again.error.retry_after is None


def test_texts_of_errors_are_cut_and_put_on_one_line() -> None:
    error = errors.Internal("first\nsecond\x1b[31m" + "x" * 5000, metadata={"a": "b\n"})
    again = decode_from_worker(encode_from_worker(frames.Failed("s", 1, error)))
    assert isinstance(again, frames.Failed)
    assert again.error.message.startswith("first second [31m")
    assert len(again.error.message) == 1000
    assert again.error.metadata == {"a": "b "}


def test_a_traceback_keeps_its_end_and_fits_into_a_frame() -> None:
    frame = frames.Failed("s", 1, errors.Internal("x"), traceback="é" * 10**6 + "the end")
    data = encode_from_worker(frame)
    assert len(data) < MAX_FRAME_BYTES
    again = decode_from_worker(data)
    assert isinstance(again, frames.Failed)
    assert again.traceback.endswith("the end")


def _hello(**fields: Any) -> worker_pb2.FromWorker:
    return worker_pb2.FromWorker(hello=worker_pb2.Hello(device_id="cpu:0", **fields))


def _progress(**event: Any) -> worker_pb2.FromWorker:
    progress = worker_pb2.Progress(session_id="session-1", epoch=1, **event)
    return worker_pb2.FromWorker(progress=progress)


def _phase(number: Any, **fields: Any) -> worker_pb2.FromWorker:
    return _progress(phase_started=session_pb2.PhaseStarted(phase=number, **fields))


def _image(**fields: Any) -> worker_pb2.FromWorker:
    honest: dict[str, Any] = {
        "name": "1-0.png",
        "sha256": "0" * 64,
        "size_bytes": 5,
        "seed": 1,
        "width": 8,
        "height": 8,
        "format": 1,
    }
    return _progress(image=worker_pb2.SpooledImage(**(honest | fields)))


def _done(**fields: Any) -> worker_pb2.FromWorker:
    session_id = fields.pop("session_id", "session-1")
    honest: dict[str, Any] = {"unet_data_type": 1, "vae_data_type": 1}
    report = worker_pb2.GenerationReport(**(honest | fields))
    return worker_pb2.FromWorker(done=worker_pb2.Done(session_id=session_id, generation=report))


def _failed(**fields: Any) -> worker_pb2.FromWorker:
    honest: dict[str, Any] = {
        "session_id": "session-1",
        "status_code": 13,
        "reason": 139,
        "message": "x",
    }
    return worker_pb2.FromWorker(failed=worker_pb2.Failed(**(honest | fields)))


@pytest.mark.parametrize(
    "message",
    [
        worker_pb2.FromWorker(),
        _hello(software_versions={"../x": "1"}),
        _hello(software_versions={"torch": "1\n2"}),
        _hello(software_versions={f"n{number}": "1" for number in range(100)}),
        worker_pb2.FromWorker(hello=worker_pb2.Hello(device_id="cpu:0\n")),
        worker_pb2.FromWorker(progress=worker_pb2.Progress(session_id="")),
        worker_pb2.FromWorker(progress=worker_pb2.Progress(session_id="a/b")),
        worker_pb2.FromWorker(progress=worker_pb2.Progress(session_id="a" * 200)),
        _phase(0),
        _phase(999),
        _progress(
            phase_started=session_pb2.PhaseStarted(
                phase=session_pb2.PHASE_DENOISING, image_index=2**31
            )
        ),
        _progress(transfer_progress=session_pb2.TransferProgress(done_bytes=2, total_bytes=1)),
        _progress(transfer_progress=session_pb2.TransferProgress(item="x" * 200)),
        _progress(transfer_progress=session_pb2.TransferProgress(item="a\x00b")),
        _progress(step_finished=session_pb2.StepFinished(step=1)),
        _progress(step_finished=session_pb2.StepFinished(step=0, steps=1)),
        _progress(step_finished=session_pb2.StepFinished(step=2, steps=1)),
        _progress(step_finished=session_pb2.StepFinished(step=1, steps=2**31)),
        _progress(preview=session_pb2.Preview(width=1, height=1)),
        _progress(preview=session_pb2.Preview(width=1, height=1, jpeg=bytes(256 * 1024 + 1))),
        _progress(preview=session_pb2.Preview(width=0, height=1, jpeg=b"x")),
        _progress(image_decoded=session_pb2.ImageDecoded(image_index=2**32 - 1)),
        *(
            _image(name=name)
            for name in (
                "",
                ".",
                "..",
                "../1-0.png",
                "/etc/passwd",
                "a/b.png",
                "a\\b.png",
                "c:b.png",
                "1-0.png\n",
                "1-0.png\x00",
                ".png",
                "1-0.exe",
                "1-0.png.part",
                "con.txt",
                "A.png",
                "x" * 300 + ".png",
            )
        ),
        *(_image(sha256=text) for text in ("", "0" * 63, "0" * 65, "G" * 64, "A" * 64)),
        _image(size_bytes=0),
        _image(size_bytes=2**40),
        _image(width=0),
        _image(height=2**31),
        _image(format=0),
        _image(format=77),
        _done(unet_data_type=0),
        _done(vae_data_type=999),
        _done(load_seconds=math.nan),
        _done(denoise_seconds=math.inf),
        _done(decode_seconds=-1.0),
        _done(degradations=[{"kind": 999}]),
        _done(degradations=[{"kind": 1, "detail": "x" * 2000}]),
        _done(degradations=[{"kind": 1}] * 100),
        _done(session_id=""),
        _failed(status_code=0),
        _failed(status_code=2),
        _failed(status_code=99),
        _failed(reason=0),
        _failed(reason=9999),
        _failed(message="a\nb"),
        _failed(message="\x1b[31m"),
        _failed(message="x" * 2000),
        _failed(metadata={"../": "x"}),
        _failed(metadata={"key": "a\nb"}),
        _failed(retry_after_seconds=math.nan),
        _failed(retry_after_seconds=-1.0),
        _failed(violations=[{"field": "x", "reason": 0}]),
        _failed(violations=[{"field": "x", "reason": 3}] * 100),
        _failed(session_id="a b"),
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_no_honest_worker_sends_is_refused(message: worker_pb2.FromWorker) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(message.SerializeToString())


def test_the_honest_forms_of_those_are_not() -> None:
    for message in (_hello(), _image(), _done(), _failed(), _failed(session_id="")):
        decode_from_worker(message.SerializeToString())


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(data: bytes) -> None:
    for decode in (decode_from_worker, decode_to_worker):
        try:
            decode(data)
        except ProtocolError:
            continue


@pytest.mark.parametrize(
    "message",
    [
        worker_pb2.ToWorker(),
        worker_pb2.ToWorker(run=worker_pb2.Run(session_id="a")),
        worker_pb2.ToWorker(run=worker_pb2.Run(generation=worker_pb2.GenerationWork())),
        worker_pb2.ToWorker(
            run=worker_pb2.Run(
                generation=worker_pb2.GenerationWork(spacing=99)  # type: ignore[arg-type]
            )
        ),
    ],
)
def test_orders_that_mean_nothing_are_refused(message: worker_pb2.ToWorker) -> None:
    with pytest.raises(ProtocolError):
        decode_to_worker(message.SerializeToString())
