"""Scripted sessions: numbered events and bytes that stand for pictures."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from google.protobuf.message import Message

from deviceops.v1 import common_pb2 as common
from deviceops.v1 import event_pb2 as events
from deviceops.v1 import session_pb2 as session

CHUNK_BYTES = 1048576


class Log:
    """Numbers a session's events as the contract says."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.events: list[events.SessionEvent] = []
        self._sequence = 0

    def entry(self, **event: Message) -> events.SessionEvent:
        """A log entry: the next number."""
        self._sequence += 1
        return self.passing(**event)

    def passing(self, **event: Message) -> events.SessionEvent:
        """A passing event: the number of the entry before it."""
        built = events.SessionEvent(
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


def generation(log: Log, steps: int, content: bytes) -> Iterator[events.SessionEvent]:
    """Every event of one picture's session."""
    done = image_of(content, format=common.IMAGE_FILE_FORMAT_PNG)
    yield log.entry(
        accepted=events.SessionAccepted(
            kind=session.SESSION_KIND_GENERATION,
            expected_phases=[session.PHASE_DENOISING, session.PHASE_DECODING],
            seeds=[42],
            steps=steps,
        )
    )
    yield log.entry(phase_started=events.PhaseStarted(phase=session.PHASE_DENOISING))
    for step in range(1, steps + 1):
        yield log.entry(step_finished=events.StepFinished(step=step, steps=steps))
        if step % 10 == 0:
            yield log.passing(preview=events.Preview(step=step, data=b"\xff\xd8"))
    yield log.entry(image_decoded=events.ImageDecoded())
    for offset in range(0, len(content), CHUNK_BYTES):
        chunk = content[offset : offset + CHUNK_BYTES]
        yield log.passing(
            image_chunk=events.ImageChunk(
                offset_bytes=offset, total_bytes=len(content), data=chunk
            )
        )
    yield log.entry(image_finished=events.ImageFinished(image=done))
    yield log.entry(completed=events.SessionCompleted(images=[done]))
