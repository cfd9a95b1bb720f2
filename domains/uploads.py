"""How bytes that do not fit in a message come in, whatever they become.

An upload is a header, data in order, and a completion. A stream that breaks off leaves an
unfinished upload for a while: a new stream with its id goes on where the other one ended,
and takes over from one whose end was not noticed yet. An upload belongs to its client.

What shares this brings a `Target`: where the bytes go.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from domains import checks
from domains.clock import Clock
from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.finishing import finished
from domains.limits import LIMITS
from domains.rooms import Room
from domains.upload_errors import (
    OffsetNotReceived,
    TooManyUploads,
    UploadChecksumMismatch,
    UploadIncomplete,
    UploadInvalid,
    UploadNotFound,
    UploadOfOtherContent,
    UploadTakenOver,
)
from domains.upload_parts import UploadCompletion, UploadHeader, UploadPart

EXPIRY_SECONDS = 600.0
"""How long an unfinished upload is kept after its last stream ended."""
MOST_UPLOADS = 256
"""Unfinished uploads of all clients together; one client has half while others have some."""
_DATA = LIMITS["UploadArtifactRequest.data"]  # the same wherever bytes are uploaded


@dataclass(frozen=True)
class Upload:
    """An upload that is not finished."""

    upload_id: str
    received_bytes: int
    size_bytes: int
    expire_time: datetime


class Target(Protocol):
    """Where the bytes of one upload go; kept between its streams."""

    async def write(self, position: int, data: bytes) -> None:
        """Put the next bytes there; `position` counts from the content's beginning.

        It may be called again with the same position after it raised. Is never broken off.
        """
        ...

    async def settle(self) -> None:
        """A stream has ended: have everything that was written in its place, and hold
        nothing that others need. Raises when bytes that were taken are lost: the upload
        cannot go on then."""
        ...

    async def discard(self) -> None:
        """The upload will not be finished."""
        ...


T = TypeVar("T", bound=Target)


@dataclass(eq=False)
class _Unfinished:
    """One upload, with what it has come to."""

    client: str
    header: UploadHeader
    purpose: Hashable
    expires: float
    target: Any = None
    received: int = 0
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: object = None
    stream: asyncio.Timeout | None = None
    over: bool = False

    def refer_to(self, header: UploadHeader, purpose: Hashable) -> bool:
        """Whether a header is of this content; a hash may become known on the way."""
        ours, theirs = self.header.sha256, header.sha256
        return (
            self.purpose == purpose
            and self.header.size_bytes == header.size_bytes
            and (ours == theirs or not ours or not theirs)
        )


class Uploads:
    """The unfinished uploads of all clients. Belongs to one event loop.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._room = Room(MOST_UPLOADS)
        self._unfinished: dict[tuple[str, str], _Unfinished] = {}

    def get(self, client: str, upload_id: str) -> Upload:
        """An unfinished upload of this client.

        Raises:
            UploadNotFound: It has none of that id, or no longer.
            InvalidArgument: REQUEST_ID_INVALID.
        """
        InvalidArgument.check(checks.request_id("upload_id", upload_id))
        upload = self._unfinished.get((client, upload_id.lower()))
        if upload is None:
            raise UploadNotFound(upload_id)
        return self._described(upload)

    def _described(self, upload: _Unfinished) -> Upload:
        header = upload.header
        if upload.turn.locked():
            upload.expires = self._clock.monotonic() + EXPIRY_SECONDS
        return Upload(
            header.upload_id,
            upload.received,
            header.size_bytes,
            self._clock.shown(upload.expires),
        )

    async def receive(
        self,
        client: str,
        header: UploadHeader,
        parts: AsyncIterator[UploadPart],
        *,
        purpose: Hashable,
        target: Callable[[], Awaitable[T]],
    ) -> tuple[T, str]:
        """Take the bytes that follow a header, to the end of the upload.

        Args:
            client: Whose upload it is.
            header: The first message, checked by `check_header`.
            parts: What follows it.
            purpose: What the content is for. An id that is used for another purpose, size or
                hash is refused.
            target: Makes where a new upload's bytes go.

        Returns:
            The target, which has the whole content and is the caller's from now on, and the
            content's SHA-256.

        Raises:
            UploadOfOtherContent: The id is of an upload of something else.
            OffsetNotReceived: The offset is not what is here.
            TooManyUploads: This client has its share of unfinished uploads.
            UploadTakenOver: Another stream goes on with the upload.
            UploadNotFound: Another stream finished it meanwhile.
            UploadIncomplete: The stream ended, or the completion came, before all bytes.
            UploadChecksumMismatch: The bytes are not those that were announced; they are gone.
            UploadInvalid: A message breaks a rule.
            Exception: What the target raises.
        """
        upload = self._upload(client, header, purpose)
        mine = upload.newest = object()
        if upload.stream is not None and not upload.stream.expired():  # end that stream
            upload.stream.reschedule(asyncio.get_running_loop().time())
        async with upload.turn:
            if upload.newest is not mine:
                raise UploadTakenOver
            if upload.over:
                raise UploadNotFound(header.upload_id)
            try:
                async with asyncio.timeout(None) as upload.stream:
                    try:
                        place: T = upload.target or await finished(target())
                        upload.target = place
                        digest = await self._take(upload, place, header, parts)
                    finally:
                        upload.stream = None
            except TimeoutError:
                await finished(self._leave(upload, mine))
                if upload.newest is mine:
                    raise
                raise UploadTakenOver from None
            except UploadChecksumMismatch:
                await finished(self._forget(upload))
                raise
            except BaseException:
                await finished(self._leave(upload, mine))
                raise
            self._remove(upload)
            return place, digest

    def _upload(self, client: str, header: UploadHeader, purpose: Hashable) -> _Unfinished:
        key = client, header.upload_id.lower()
        upload = self._unfinished.get(key)
        if upload is None:
            if header.offset_bytes:
                raise OffsetNotReceived(0, header.size_bytes)
            if not self._room.has_place_for(client):
                raise TooManyUploads(self._room.limit_for(client))
            self._room.take(client)
            expires = self._clock.monotonic() + EXPIRY_SECONDS
            upload = self._unfinished[key] = _Unfinished(client, header, purpose, expires)
        elif not upload.refer_to(header, purpose):
            raise UploadOfOtherContent(header.upload_id)
        return upload

    async def _take(
        self,
        upload: _Unfinished,
        target: Target,
        header: UploadHeader,
        parts: AsyncIterator[UploadPart],
    ) -> str:
        if header.offset_bytes != upload.received:
            raise OffsetNotReceived(upload.received, header.size_bytes)
        expected = header.sha256 or upload.header.sha256
        upload.header = header
        async for part in parts:
            match part:
                case bytes():
                    _check_data(part, header.size_bytes - upload.received)
                    await finished(self._put(upload, target, part))
                case UploadCompletion(sha256):
                    digest = _checked(upload, expected, sha256)
                    await finished(target.settle())
                    return digest
                case UploadHeader():
                    raise _broken("header", Reason.FIELDS_CONFLICT, "Must come once.")
                case None:
                    raise _broken("part", Reason.REQUIRED_FIELD_MISSING, "Must be set.")
        raise UploadIncomplete(upload.received, header.size_bytes)

    async def _put(self, upload: _Unfinished, target: Target, data: bytes) -> None:
        """Written and hashed at once; neither counts unless both were done."""
        sha256 = upload.sha256.copy()
        await asyncio.gather(
            target.write(upload.received, data), asyncio.to_thread(sha256.update, data)
        )
        upload.sha256 = sha256
        upload.received += len(data)

    async def _leave(self, upload: _Unfinished, mine: object) -> None:
        """A stream is over and the upload is not: keep it for a while, if it can go on.

        One that has not begun is kept for a stream that came after `mine`, and else is not.
        """
        upload.expires = self._clock.monotonic() + EXPIRY_SECONDS
        if upload.target is None:
            if upload.newest is mine:
                self._remove(upload)
            return
        try:
            await upload.target.settle()
        except Exception:
            await self._forget(upload)

    async def _forget(self, upload: _Unfinished) -> None:
        self._remove(upload)
        if upload.target is not None:
            await upload.target.discard()

    def _remove(self, upload: _Unfinished) -> None:
        upload.over = True
        self._room.give_back(upload.client)
        del self._unfinished[upload.client, upload.header.upload_id.lower()]

    async def tidy(self) -> None:
        """Throw away what was not gone on with in time."""
        now = self._clock.monotonic()
        for upload in list(self._unfinished.values()):
            if upload.expires <= now and not upload.turn.locked() and not upload.over:
                await finished(self._forget(upload))


def check_header(header: UploadHeader, path: str) -> None:
    """Refuse a header that breaks a rule; `path` is where it stands in the message.

    Raises:
        UploadInvalid: REQUEST_ID_INVALID, FIELD_OUT_OF_RANGE or NAME_INVALID.
    """
    limit = LIMITS["UploadHeader.size_bytes"]
    offset = f"{path}.offset_bytes"
    UploadInvalid.check(
        checks.request_id(f"{path}.upload_id", header.upload_id),
        checks.number(f"{path}.size_bytes", header.size_bytes, limit),
        FieldViolation(offset, Reason.FIELD_OUT_OF_RANGE, "Must not be negative.")
        if header.offset_bytes < 0
        else None,
        checks.sha256(f"{path}.sha256", header.sha256) if header.sha256 else None,
    )


def _check_data(data: bytes, left: int) -> None:
    UploadInvalid.check(checks.size("data", len(data), _DATA))
    if len(data) > left:
        rule = f"Only {left} bytes of the announced size are left, and {len(data)} came."
        raise _broken("data", Reason.FIELD_OUT_OF_RANGE, rule)


def _checked(upload: _Unfinished, announced: str, sha256: str) -> str:
    """The hash of the whole content, which has come, and is what it should be."""
    UploadInvalid.check(
        checks.required("completion.sha256", sha256),
        checks.sha256("completion.sha256", sha256) if sha256 else None,
    )
    if upload.received < upload.header.size_bytes:
        raise UploadIncomplete(upload.received, upload.header.size_bytes)
    found = upload.sha256.hexdigest()
    for expected in (announced or sha256, sha256):
        if expected != found:
            raise UploadChecksumMismatch(expected, found)
    return found


def _broken(path: str, reason: Reason, rule: str) -> UploadInvalid:
    return UploadInvalid.of(FieldViolation(path, reason, rule))
