"""A worker that breaks the rules of the link in one stated way.

    python -m tests.fakes.rogue_worker <how>

It speaks to the link itself, so that it can say what the product's worker never would.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import msgspec
from msgspec.structs import replace

from domains.codec import decode, encode
from domains.device.jobs import ReleaseReport
from domains.errors import Failure, Unavailable
from domains.inference.jobs import GenerationJob, GenerationReport, Timings
from domains.inference.types import Computation, PrecisionMode
from domains.session.types import ImageResult, Phase, PhaseStarted, StepFinished, TextEncoded
from domains.values import ByteFigure, ImageFileFormat, ModelOrigin
from server.worker.link import frames
from server.worker.link.connection import Link, connect
from server.worker.link.start_record import StartRecord
from tests.fakes.pictures import png

NO_PEAK = ByteFigure.unknown("a fake")


def misbehave(how: str) -> None:
    """Read the start record, and break one rule."""
    record = StartRecord.from_bytes(sys.stdin.buffer.readline())
    if how == "never-connect":
        _wait()
    key = bytes(32) if how == "wrong-key" else record.key
    link = connect(record.address, key)
    if how == "never-hello":
        _wait()
    version = frames.PROTOCOL_VERSION + (how == "wrong-version")
    device_id = "cuda:7" if how == "wrong-device" else record.device_id
    if how == "no-hello-first":
        link.send(encode(frames.Beat(1)))
        _wait()
    link.send(encode(frames.Hello(version, device_id, os.getpid())))
    if how == "close-link":
        link.close()
        _wait()
    if how == "hello-twice":
        link.send(encode(frames.Hello(version, device_id, os.getpid())))
    if how == "garbage-when-idle":
        link.send(b"\xff\xff\xff\xff")
    if how == "stop-reading":
        _beat_forever(link)
    while True:
        order = frames.decode_to_worker(link.receive())
        if isinstance(order, frames.RunOrder):
            _answer(link, order, how, record.spool_dir)
        if isinstance(order, frames.MemoryOrder):
            for answer in _memory_answers(order.ticket, how):
                link.send(encode(answer))


def _memory_answers(ticket: int, how: str) -> list[frames.MemoryAnswer]:
    """Answers to a move or comparison of 1000 bytes."""

    def progress(done: int) -> frames.MemoryAnswer:
        return frames.MemoryAnswer(ticket, frames.MemoryProgress(done))

    def done(length: int) -> frames.MemoryAnswer:
        return frames.MemoryAnswer(ticket, frames.MemoryDone(length))

    match how:
        case "memory-unknown-ticket":
            return [frames.MemoryAnswer(ticket + 1, frames.MemoryDone(1000))]
        case "memory-too-far":
            return [progress(1001)]
        case "memory-backwards":
            return [progress(500), progress(499)]
        case "memory-too-short":
            return [done(999)]
        case "memory-twice":
            return [done(1000), done(1000)]
        case "memory-more-equal":
            return [done(1001)]
        case _:
            raise ValueError(how)


def _answer(link: Link, run: frames.RunOrder, how: str, spool: Path) -> None:
    def progress(
        event: StepFinished | TextEncoded | ImageResult,
        session_id: str = run.session_id,
        epoch: int = run.epoch,
    ) -> None:
        link.send(encode(frames.Progress(session_id, epoch, event)))

    step = StepFinished(0, 1, 10)
    match how:
        case "garbage":
            link.send(b"\xff\xff\xff\xff")
        case "empty-frame":
            link.send(b"")
        case "oversized":
            _send_raw(link, bytes(2 << 20))
        case "other-session":
            progress(step, session_id="somebody-else")
        case "future-epoch":
            progress(step, epoch=run.epoch + 1)
        case "unknown-enum":
            plain = msgspec.msgpack.decode(
                encode(
                    frames.Progress(run.session_id, run.epoch, PhaseStarted(Phase.DENOISING))
                )
            )
            plain["event"]["phase"] = "dreaming"
            link.send(msgspec.msgpack.encode(plain))
        case "unknown-picture":
            progress(StepFinished(5, 1, 10))
        case "stale-epoch":
            for _ in range(3):
                progress(step, epoch=run.epoch - 1)
            for index in (0, 1):
                progress(_image(run, "", spool, index))
            link.send(encode(_done(run)))
        case "other-report":
            report = frames.raw(ReleaseReport(()))
            link.send(encode(frames.Done(run.session_id, run.epoch, report, NO_PEAK)))
        case "done-without-pictures":
            link.send(encode(_done(run)))
        case "part-that-is-none":
            _end_part(link, run, 2, Unavailable("gone").failure())
        case "part-twice":
            for _ in range(2):
                _end_part(link, run, 0, Unavailable("gone").failure())
        case "part-before-its-pictures":
            _end_part(link, run, 1, _report())
        case "other-event":
            progress(TextEncoded(cached=False))
        case "endless-steps":
            while True:
                progress(step)
        case "endless-output":
            while True:
                print("ERROR " + "x" * 200, flush=True)
        case "endless-events":
            # Every one lasting, so that none makes another old.
            while True:
                progress(TextEncoded(cached=False))
        case _:
            progress(_image(run, how, spool))
            link.send(encode(_done(run)))


def _image(run: frames.RunOrder, how: str, spool: Path, index: int = 0) -> ImageResult:
    job = decode(GenerationJob, bytes(run.job))
    path = spool / f"{run.epoch}-{index}.png"
    width, height = job.settings.size
    picture = {
        "no-picture": bytes(range(100)),
        "cut-picture": png(width, height)[:-1],
        "smaller-picture": png(width // 2, height),
    }.get(how) or png(width, height)
    path.write_bytes(picture)
    image = ImageResult(
        image_index=index,
        seed=job.settings.seeds[index],
        artifact_id=hashlib.sha256(picture).hexdigest(),
        format=ImageFileFormat.PNG,
        width=width,
        height=height,
        size_bytes=len(picture),
    )
    match how:
        case "wrong-hash":
            return replace(image, artifact_id="0" * 64)
        case "hash-is-no-hash":
            return replace(image, artifact_id="../../etc/passwd")
        case "wrong-size":
            return replace(image, size_bytes=image.size_bytes + 1)
        case "wrong-seed":
            return replace(image, seed=image.seed + 1)
        case "wrong-width":
            return replace(image, width=width + 8)
        case "no-picture" | "cut-picture" | "smaller-picture" | "one-of-two" | "":
            pass
        case "wrong-format":
            return replace(image, format=ImageFileFormat.JPEG)
        case "missing-file":
            path.unlink()
        case "link-for-file":
            outside = spool.parent / "secret"
            outside.write_bytes(picture)
            path.unlink()
            path.symlink_to(outside)
        case "pipe-for-file":
            path.unlink()
            os.mkfifo(path)
        case _:
            raise ValueError(how)
    return image


def _report() -> GenerationReport:
    return GenerationReport(
        Timings(),
        PrecisionMode.EXACT,
        ModelOrigin.LOADED,
        data_types=(),
        computed=Computation(),
    )


def _done(run: frames.RunOrder) -> frames.Done:
    return frames.Done(run.session_id, run.epoch, frames.raw(_report()), NO_PEAK)


def _end_part(
    link: Link, run: frames.RunOrder, part: int, outcome: GenerationReport | Failure
) -> None:
    link.send(encode(frames.PartDone(run.session_id, run.epoch, part, frames.raw(outcome))))


def _send_raw(link: Link, data: bytes) -> None:
    link._connection.send_bytes(data)


def _beat_forever(link: Link) -> None:
    while True:
        link.send(encode(frames.Beat(1)))
        time.sleep(0.05)


def _wait() -> None:
    threading.Event().wait()


if __name__ == "__main__":
    misbehave(sys.argv[1])
