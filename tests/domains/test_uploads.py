"""Uploads: one stream or several, what goes wrong on the way, and whose they are."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Hashable, Iterable
from datetime import UTC, datetime, timedelta

import pytest

from domains.clock import Clock
from domains.errors import (
    AlreadyExists,
    DomainError,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.upload_parts import UploadCompletion, UploadHeader, UploadPart
from domains.uploads import EXPIRY_SECONDS, MOST_UPLOADS, Uploads, check_header

CONTENT = bytes(range(256)) * 4
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ID = "5f0f1f3e-7a4e-4d4a-9a6b-0c6a3a9b2d11"
ANN, BOB = "ann", "bob"
START = datetime(2030, 1, 1, tzinfo=UTC)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, lambda: START + timedelta(seconds=self.seconds))


class Memory:
    """A target in memory that may fail."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.settled = 0
        self.discarded = False
        self.refuse: DomainError | None = None
        self.lose = False
        self.go: asyncio.Event | None = None
        self.settling: asyncio.Event | None = None
        self.began_settling = asyncio.Event()

    async def write(self, position: int, data: bytes) -> None:
        if self.go is not None:
            await self.go.wait()
        if self.refuse is not None:
            raise self.refuse
        self.content[position:] = data

    async def settle(self) -> None:
        self.settled += 1
        if self.settling is not None:
            self.began_settling.set()
            await self.settling.wait()
        if self.lose:
            raise Unavailable("gone", reason=Reason.WORKER_LOST)

    async def discard(self) -> None:
        assert not self.discarded
        self.discarded = True


class Upload:
    """One upload of CONTENT, in as many streams as a test opens."""

    def __init__(self, uploads: Uploads, *, upload_id: str = ID, client: str = ANN) -> None:
        self.uploads = uploads
        self.upload_id = upload_id
        self.client = client
        self.targets: list[Memory] = []

    @property
    def target(self) -> Memory:
        (made,) = self.targets
        return made

    async def _make(self) -> Memory:
        self.targets.append(Memory())
        return self.targets[-1]

    async def send(
        self,
        parts: AsyncIterator[UploadPart] | Iterable[UploadPart],
        *,
        offset: int = 0,
        size: int = len(CONTENT),
        sha256: str = "",
        purpose: Hashable = "tests",
    ) -> tuple[Memory, str]:
        header = UploadHeader(self.upload_id, offset, size, sha256)
        if not isinstance(parts, AsyncIterator):
            parts = _each(parts)
        return await self.uploads.receive(
            self.client, header, parts, purpose=purpose, target=self._make
        )

    def received(self) -> int:
        return self.uploads.get(self.client, self.upload_id).received_bytes


async def _each(parts: Iterable[UploadPart]) -> AsyncIterator[UploadPart]:
    for part in parts:
        yield part


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def uploads(time: Time) -> Uploads:
    return Uploads(time.clock)


@pytest.fixture
def upload(uploads: Uploads) -> Upload:
    return Upload(uploads)


DONE = UploadCompletion(SHA256)


async def test_one_stream_brings_the_whole_content(upload: Upload) -> None:
    target, sha256 = await upload.send([CONTENT[:100], CONTENT[100:], DONE], sha256=SHA256)

    assert bytes(target.content) == CONTENT
    assert sha256 == SHA256
    assert target.settled
    assert not target.discarded
    with pytest.raises(NotFound) as gone:
        upload.received()
    assert gone.value.reason is Reason.UPLOAD_NOT_FOUND


async def test_a_broken_stream_is_gone_on_with_where_it_ended(
    upload: Upload, time: Time
) -> None:
    with pytest.raises(InvalidArgument) as broken:
        await upload.send([CONTENT[:300]])
    assert broken.value.reason is Reason.UPLOAD_INCOMPLETE
    assert broken.value.metadata == {"received_bytes": "300", "size_bytes": str(len(CONTENT))}
    described = upload.uploads.get(ANN, ID.upper())
    assert (described.received_bytes, described.size_bytes) == (300, len(CONTENT))
    assert described.expire_time == START + timedelta(seconds=EXPIRY_SECONDS)

    time.seconds = EXPIRY_SECONDS - 1
    await upload.uploads.tidy()
    target, sha256 = await upload.send([CONTENT[300:], DONE], offset=300, sha256=SHA256)

    assert (bytes(target.content), sha256) == (CONTENT, SHA256)
    assert len(upload.targets) == 1


async def test_a_cancelled_call_leaves_an_upload(upload: Upload) -> None:
    taken = asyncio.Event()

    async def parts() -> AsyncIterator[UploadPart]:
        yield CONTENT[:300]
        taken.set()
        await asyncio.Event().wait()

    call = asyncio.ensure_future(upload.send(parts()))
    await taken.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert upload.received() == 300
    assert upload.target.settled
    await upload.send([CONTENT[300:], DONE], offset=300)
    assert bytes(upload.target.content) == CONTENT


async def test_a_call_cancelled_in_mid_write_counts_what_was_written(upload: Upload) -> None:
    with pytest.raises(InvalidArgument):
        await upload.send([CONTENT[:10]])
    upload.target.go = asyncio.Event()
    call = asyncio.ensure_future(upload.send([CONTENT[10:20]], offset=10))
    await asyncio.sleep(0)
    call.cancel()
    upload.target.go.set()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert upload.received() == len(upload.target.content)
    await upload.send([CONTENT[upload.received() :], DONE], offset=upload.received())
    assert bytes(upload.target.content) == CONTENT


async def test_a_new_stream_takes_over_from_one_whose_end_was_not_noticed(
    upload: Upload,
) -> None:
    taken = asyncio.Event()

    async def silent() -> AsyncIterator[UploadPart]:
        yield CONTENT[:300]
        taken.set()
        await asyncio.Event().wait()

    old = asyncio.ensure_future(upload.send(silent()))
    await taken.wait()

    target, _ = await upload.send([CONTENT[300:], DONE], offset=300)

    assert bytes(target.content) == CONTENT
    with pytest.raises(InvalidArgument, match="Another stream") as ended:
        await old
    assert ended.value.reason is Reason.UPLOAD_INCOMPLETE


async def test_a_new_stream_waits_until_the_old_one_has_settled(upload: Upload) -> None:
    with pytest.raises(InvalidArgument):
        await upload.send([CONTENT[:300]])
    upload.target.settling = asyncio.Event()
    old = asyncio.ensure_future(upload.send([CONTENT[300:400]], offset=300))
    await asyncio.wait_for(upload.target.began_settling.wait(), 30)
    new = asyncio.ensure_future(upload.send([CONTENT[400:], DONE], offset=400))
    await asyncio.sleep(0)
    assert not new.done()
    upload.target.settling.set()

    assert bytes((await new)[0].content) == CONTENT
    with pytest.raises(InvalidArgument):
        await old


async def test_of_many_streams_at_once_the_newest_goes_on(upload: Upload) -> None:
    go = asyncio.Event()

    async def waiting() -> AsyncIterator[UploadPart]:
        await go.wait()
        yield CONTENT
        yield DONE

    calls = [asyncio.ensure_future(upload.send(waiting())) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    *older, newest = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(newest, tuple)
    assert bytes(newest[0].content) == CONTENT
    for refused in older:
        assert isinstance(refused, InvalidArgument)
        assert refused.reason is Reason.UPLOAD_INCOMPLETE
    with pytest.raises(NotFound):
        upload.received()


@pytest.mark.parametrize("offset", [1, 299, 301, len(CONTENT), 1 << 40])
async def test_an_offset_that_is_not_what_is_here_says_what_is(
    upload: Upload, offset: int
) -> None:
    with pytest.raises(OutOfRange) as new:
        await upload.send([CONTENT], offset=offset)
    assert new.value.metadata["received_bytes"] == "0"
    assert not upload.targets
    with pytest.raises(InvalidArgument):
        await upload.send([CONTENT[:300]])

    for wrong in (offset, 0):
        with pytest.raises(OutOfRange) as refused:
            await upload.send([CONTENT], offset=wrong)
        assert refused.value.reason is Reason.OFFSET_OUT_OF_RANGE
        assert refused.value.metadata["received_bytes"] == "300"
    assert upload.received() == 300


@pytest.mark.parametrize(
    "other",
    [{"size": 7}, {"purpose": "another"}, {"sha256": "0" * 64}],
    ids=["size", "purpose", "hash"],
)
async def test_an_id_is_not_used_for_other_content(
    upload: Upload, other: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgument):
        await upload.send([CONTENT[:300]], sha256=SHA256)

    with pytest.raises(AlreadyExists) as refused:
        await upload.send([CONTENT[300:]], offset=300, **other)  # type: ignore[arg-type]
    assert refused.value.reason is Reason.REQUEST_ID_REUSED

    await upload.send([CONTENT[300:], DONE], offset=300)


async def test_another_client_neither_sees_nor_disturbs_it(
    upload: Upload, uploads: Uploads
) -> None:
    with pytest.raises(InvalidArgument):
        await upload.send([CONTENT[:300]])
    theirs = Upload(uploads, client=BOB)

    with pytest.raises(NotFound):
        theirs.received()
    await theirs.send([CONTENT, DONE])

    assert upload.received() == 300


BROKEN: dict[str, tuple[list[UploadPart], Reason, str]] = {
    "nothing": ([None], Reason.REQUIRED_FIELD_MISSING, "part"),
    "second header": ([UploadHeader(ID, 0, 1)], Reason.FIELDS_CONFLICT, "header"),
    "too much": ([CONTENT, b"x"], Reason.FIELD_OUT_OF_RANGE, "data"),
    "no hash": ([CONTENT, UploadCompletion("")], Reason.REQUIRED_FIELD_MISSING, "completion"),
    "no such hash": ([CONTENT, UploadCompletion("A" * 64)], Reason.NAME_INVALID, "completion"),
    "early": ([CONTENT[:5], DONE], Reason.UPLOAD_INCOMPLETE, ""),
    "no end": ([CONTENT], Reason.UPLOAD_INCOMPLETE, ""),
}


@pytest.mark.parametrize(("parts", "reason", "field"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_message_ends_the_stream_and_not_the_upload(
    upload: Upload, parts: list[UploadPart], reason: Reason, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await upload.send(parts)
    assert refused.value.reason is reason
    assert all(broken.field.startswith(field) for broken in refused.value.violations)

    here = upload.received()
    await upload.send([*([CONTENT[here:]] if CONTENT[here:] else []), DONE], offset=here)
    assert bytes(upload.target.content) == CONTENT


async def test_a_message_of_data_has_a_limit(upload: Upload) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await upload.send([bytes((1 << 20) + 1)], size=1 << 21)
    assert (refused.value.reason, refused.value.violations[0].field) == (
        Reason.FIELD_OUT_OF_RANGE,
        "data",
    )


@pytest.mark.parametrize("announced", ["", SHA256])
@pytest.mark.parametrize("completed", ["0" * 64, SHA256])
async def test_bytes_of_another_hash_are_thrown_away(
    upload: Upload, announced: str, completed: str
) -> None:
    wrong = bytes(len(CONTENT))
    with pytest.raises(InvalidArgument) as refused:
        await upload.send([wrong, UploadCompletion(completed)], sha256=announced)

    assert refused.value.reason is Reason.CHECKSUM_MISMATCH
    assert refused.value.metadata["found_sha256"] == hashlib.sha256(wrong).hexdigest()
    assert upload.target.discarded
    with pytest.raises(NotFound):
        upload.received()


async def test_what_nobody_goes_on_with_is_thrown_away(upload: Upload, time: Time) -> None:
    with pytest.raises(InvalidArgument):
        await upload.send([CONTENT[:300]])
    time.seconds = EXPIRY_SECONDS
    await upload.uploads.tidy()

    assert upload.target.discarded
    with pytest.raises(NotFound):
        upload.received()


async def test_a_stream_that_is_slow_does_not_expire(upload: Upload, time: Time) -> None:
    async def parts() -> AsyncIterator[UploadPart]:
        yield CONTENT[:300]
        time.seconds = 2 * EXPIRY_SECONDS
        await upload.uploads.tidy()
        described = upload.uploads.get(ANN, ID)
        assert described.expire_time == START + timedelta(seconds=3 * EXPIRY_SECONDS)
        yield CONTENT[300:]
        yield DONE

    target, _ = await upload.send(parts())
    assert bytes(target.content) == CONTENT


async def test_what_a_target_refuses_can_be_sent_again(upload: Upload) -> None:
    full = ResourceExhausted("full", reason=Reason.DISK_FULL)

    def refusing() -> Iterable[UploadPart]:
        yield CONTENT[:300]
        upload.target.refuse = full
        yield CONTENT[300:]

    with pytest.raises(ResourceExhausted):
        await upload.send(refusing())
    assert upload.received() == 300

    upload.target.refuse = None
    target, _ = await upload.send([CONTENT[300:], DONE], offset=300)
    assert bytes(target.content) == CONTENT


async def test_an_upload_whose_bytes_are_lost_is_over(upload: Upload) -> None:
    def losing() -> Iterable[UploadPart]:
        yield CONTENT[:300]
        upload.target.lose = True

    with pytest.raises(InvalidArgument):
        await upload.send(losing())

    assert upload.target.discarded
    with pytest.raises(NotFound):
        upload.received()


async def test_an_upload_that_cannot_begin_leaves_nothing(uploads: Uploads) -> None:
    async def refuse() -> Memory:
        raise ResourceExhausted("full", reason=Reason.DISK_FULL)

    for _ in range(MOST_UPLOADS + 1):
        header = UploadHeader(str(uuid.uuid4()), 0, 5)
        with pytest.raises(ResourceExhausted, match="full"):
            await uploads.receive(ANN, header, _each([]), purpose=0, target=refuse)
        with pytest.raises(NotFound):
            uploads.get(ANN, header.upload_id)


async def test_one_client_leaves_room_for_others(uploads: Uploads, time: Time) -> None:
    async def begin(client: str) -> None:
        one = Upload(uploads, upload_id=str(uuid.uuid4()), client=client)
        await one.send([b"x"])

    async def fill(client: str) -> ResourceExhausted:
        for _ in range(MOST_UPLOADS + 1):
            try:
                with pytest.raises(InvalidArgument):  # UPLOAD_INCOMPLETE
                    await begin(client)
            except ResourceExhausted as full:
                return full
        raise AssertionError("there is no limit")

    full = await fill(ANN)
    assert full.reason is Reason.CLIENT_QUOTA_EXCEEDED
    assert full.metadata["limit"] == str(MOST_UPLOADS)
    assert full.retry_after
    assert (await fill(BOB)).metadata["limit"] == str(MOST_UPLOADS // 2)

    time.seconds = EXPIRY_SECONDS
    await uploads.tidy()
    await Upload(uploads).send([CONTENT, DONE])


@pytest.mark.parametrize(
    ("header", "reason", "field"),
    [
        (UploadHeader("", 0, 1), Reason.REQUEST_ID_INVALID, "upload_id"),
        (UploadHeader("../etc/passwd", 0, 1), Reason.REQUEST_ID_INVALID, "upload_id"),
        (UploadHeader(ID, 0, 0), Reason.FIELD_OUT_OF_RANGE, "size_bytes"),
        (UploadHeader(ID, 0, 1 << 40), Reason.FIELD_OUT_OF_RANGE, "size_bytes"),
        (UploadHeader(ID, -1, 1), Reason.FIELD_OUT_OF_RANGE, "offset_bytes"),
        (UploadHeader(ID, 0, 1, "x"), Reason.NAME_INVALID, "sha256"),
    ],
)
def test_headers_are_checked(header: UploadHeader, reason: Reason, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_header(header, "header.upload")

    (broken,) = refused.value.violations
    assert (broken.reason, broken.field) == (reason, f"header.upload.{field}")


def test_only_ids_are_asked_for(uploads: Uploads) -> None:
    with pytest.raises(InvalidArgument) as refused:
        uploads.get(ANN, "no id")
    assert refused.value.reason is Reason.REQUEST_ID_INVALID
