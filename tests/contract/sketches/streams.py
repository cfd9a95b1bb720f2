"""Scripted sessions: numbered events and bytes that stand for pictures."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from google.protobuf.message import Message

from deviceops.v1 import common_pb2 as common
from deviceops.v1 import session_pb2 as session

CHUNK_BYTES = 1048576


class Log:
    """Numbers a session's events as the contract says."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.events: list[session.SessionEvent] = []
        self._sequence = 0

    def entry(self, **event: Message) -> session.SessionEvent:
        """A log entry: the next number."""
        self._sequence += 1
        return self.passing(**event)

    def passing(self, **event: Message) -> session.SessionEvent:
        """A passing event: the number of the entry before it."""
        built = session.SessionEvent(
            session_id=self.session_id,
            sequence=self._sequence,
            **event,  # type: ignore[arg-type]
        )
        self.events.append(built)
        return built


def picture(seed: int, size_bytes: int = 5 * CHUNK_BYTES // 2) -> bytes:
    """Bytes that stand for a picture's file."""
    return random.Random(seed).randbytes(size_bytes)


def image_of(content: bytes, index: int = 0, **fields: object) -> session.ImageResult:
    """The result that describes `content`."""
    return session.ImageResult(
        image_index=index,
        artifact_id=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        **fields,  # type: ignore[arg-type]
    )


def generation(log: Log, steps: int, content: bytes) -> Iterator[session.SessionEvent]:
    """Every event of one picture's session."""
    done = image_of(content, format=common.IMAGE_FORMAT_PNG)
    yield log.entry(
        accepted=session.SessionAccepted(
            kind=session.SESSION_KIND_GENERATION,
            expected_phases=[session.PHASE_DENOISING, session.PHASE_DECODING],
            seeds=[42],
            steps=steps,
        )
    )
    yield log.entry(phase_started=session.PhaseStarted(phase=session.PHASE_DENOISING))
    for step in range(1, steps + 1):
        yield log.entry(step_finished=session.StepFinished(step=step, steps=steps))
        if step % 10 == 0:
            yield log.passing(preview=session.Preview(step=step, jpeg=b"\xff\xd8"))
    yield log.entry(image_decoded=session.ImageDecoded())
    for offset in range(0, len(content), CHUNK_BYTES):
        chunk = content[offset : offset + CHUNK_BYTES]
        yield log.passing(
            image_chunk=session.ImageChunk(
                offset_bytes=offset, total_bytes=len(content), data=chunk
            )
        )
    yield log.entry(image_finished=session.ImageFinished(image=done))
    yield log.entry(completed=session.SessionCompleted(images=[done]))
