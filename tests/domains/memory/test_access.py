"""Bytes in and out: in order, hashed, within bounds, and what a broken write leaves."""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import AsyncIterator

import pytest

from domains.errors import DomainError, Reason
from domains.memory.errors import (
    AllocationBusy,
    AllocationNotFound,
    ChecksumMismatch,
    OffsetOutOfRange,
)
from domains.memory.types import Allocation, Place, WriteHeader
from domains.upload_errors import UploadIncomplete, UploadNotFound, UploadOfOtherContent
from domains.uploads import UploadCompletion, UploadHeader, UploadPart
from tests.domains.memory.conftest import ADMIN, ANN, BOB, CARD, CPU, HOST, MIB, System

places = pytest.mark.parametrize("place", [HOST, CPU, CARD], ids=str)
DATA = random.Random(1).randbytes(19 * MIB + 77)  # more than two slots, no round number


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def parts(*items: UploadPart) -> AsyncIterator[UploadPart]:
    for item in items:
        await asyncio.sleep(0)
        yield item


def header(
    one: Allocation, size: int, *, offset: int = 0, upload_id: str = "", begin: int = 0
) -> WriteHeader:
    """Of an upload of `size` bytes to byte `offset`, whose stream starts at byte `begin`."""
    upload = UploadHeader(upload_id or str(uuid.uuid4()), begin, size)
    return WriteHeader(one.allocation_id, offset, upload)


def chunks(data: bytes) -> list[bytes]:
    return [data[offset : offset + MIB] for offset in range(0, len(data), MIB)]


async def write(system: System, one: Allocation, data: bytes, offset: int = 0) -> int:
    stream = parts(*chunks(data), UploadCompletion(sha256(data)))
    first = header(one, len(data), offset=offset)
    return await system.service.access.write(ANN, first, stream)


async def read(system: System, one: Allocation, offset: int = 0, length: int = 0) -> bytes:
    """The bytes, once offsets and hash have been found right."""
    data, end = b"", ""
    async for chunk in system.service.access.read(ANN, one.allocation_id, offset, length):
        assert end == ""
        assert chunk.offset == offset + len(data)
        assert len(chunk.data) <= MIB
        data, end = data + chunk.data, chunk.sha256
    assert end == sha256(data)
    return data


@places
async def test_what_is_written_is_read(system: System, place: Place) -> None:
    one = await system.lend(place, len(DATA))

    assert await write(system, one, DATA) == len(DATA)

    assert await read(system, one) == DATA
    assert await read(system, one, 12345, 2 * MIB) == DATA[12345:][: 2 * MIB]
    assert await read(system, one, len(DATA)) == b""
    assert system.backed() == len(DATA)  # slots are given back


@places
async def test_a_write_changes_its_region_and_nothing_else(
    system: System, place: Place
) -> None:
    one = await system.lend(place, 3 * MIB)
    await write(system, one, DATA[: 3 * MIB])

    await write(system, one, b"x" * 1000, offset=MIB + 5)

    expected = bytearray(DATA[: 3 * MIB])
    expected[MIB + 5 : MIB + 1005] = b"x" * 1000
    assert await read(system, one) == bytes(expected)


@places
async def test_bytes_that_changed_on_the_way_are_found(system: System, place: Place) -> None:
    one = await system.lend(place, 100)
    stream = parts(b"a" * 100, UploadCompletion(sha256(b"b" * 100)))

    with pytest.raises(ChecksumMismatch) as wrong:
        await system.service.access.write(ANN, header(one, 100), stream)

    assert wrong.value.metadata == {
        "expected_sha256": sha256(b"b" * 100),
        "found_sha256": sha256(b"a" * 100),
    }
    assert await read(system, one) == b"a" * 100
    assert system.backed() == 100
    assert await write(system, one, b"b" * 100) == 100


@places
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ((), Reason.UPLOAD_INCOMPLETE),
        ((b"x",), Reason.UPLOAD_INCOMPLETE),
        ((UploadCompletion(sha256(b"")),), Reason.UPLOAD_INCOMPLETE),
        ((UploadHeader("again", 0, 1),), Reason.FIELDS_CONFLICT),
        ((None,), Reason.REQUIRED_FIELD_MISSING),
        ((b"x" * (MIB + 1),), Reason.FIELD_OUT_OF_RANGE),
        ((b"x" * MIB, b"x" * MIB, b"x"), Reason.FIELD_OUT_OF_RANGE),
    ],
)
async def test_a_write_in_disorder_is_refused_and_holds_nothing(
    system: System, place: Place, broken: tuple[UploadPart, ...], reason: Reason
) -> None:
    one = await system.lend(place, 2 * MIB)

    with pytest.raises(DomainError) as refused:
        await system.service.access.write(ANN, header(one, 2 * MIB), parts(*broken))

    assert refused.value.reason is reason
    assert system.backed() == 2 * MIB


async def test_an_offset_past_the_end_is_out_of_range(system: System) -> None:
    one = await system.lend(HOST, 100)

    for offset, length in ((101, 0), (100, 1), (0, 101), (2**62, 2**62), (-1, 1), (5, -1)):
        with pytest.raises(OffsetOutOfRange):
            await read(system, one, offset, length)
    for offset, data in ((100, b"x"), (101, b"x"), (0, b"x" * 101), (-1, b"x")):
        with pytest.raises(OffsetOutOfRange):
            await write(system, one, data, offset=offset)


async def test_what_is_not_the_callers_is_neither_written_nor_read(system: System) -> None:
    one = await system.lend(HOST, 100)
    with pytest.raises(AllocationNotFound):
        await system.service.access.write(BOB, header(one, 1), parts(b"x"))
    with pytest.raises(AllocationNotFound):
        await anext(system.service.access.read(BOB, one.allocation_id, 0, 0))
    stream = parts(b"x", UploadCompletion(sha256(b"x")))
    assert await system.service.access.write(ADMIN, header(one, 1), stream) == 1


@places
async def test_a_write_goes_on_where_its_stream_broke(system: System, place: Place) -> None:
    one = await system.lend(place, len(DATA) + 7)
    upload_id, all_chunks = str(uuid.uuid4()), chunks(DATA)
    options = {"offset": 7, "upload_id": upload_id}

    received = 0
    for cut in (3, 9, 10):
        stream = parts(*all_chunks[received // MIB : cut])
        first = header(one, len(DATA), begin=received, **options)  # type: ignore[arg-type]
        with pytest.raises(UploadIncomplete):
            await system.service.access.write(ANN, first, stream)
        received = system.uploads.get("ann", upload_id).received_bytes
        assert received == cut * MIB
        assert await read(system, one, 7, received) == DATA[:received]
        assert system.backed() == len(DATA) + 7  # no slots between streams

    rest = parts(*all_chunks[10:], UploadCompletion(sha256(DATA)))
    first = header(one, len(DATA), begin=received, **options)  # type: ignore[arg-type]
    assert await system.service.access.write(ANN, first, rest) == len(DATA)
    assert await read(system, one, 7) == DATA
    with pytest.raises(UploadNotFound):
        system.uploads.get("ann", upload_id)


async def test_an_upload_id_is_of_one_region(system: System) -> None:
    one, other = await system.lend(HOST, 100), await system.lend(HOST, 100)
    upload_id = str(uuid.uuid4())
    with pytest.raises(UploadIncomplete):
        await system.service.access.write(
            ANN, header(one, 10, upload_id=upload_id), parts(b"x")
        )

    for elsewhere in (
        header(other, 10, upload_id=upload_id, begin=1),
        header(one, 10, offset=1, upload_id=upload_id, begin=1),
    ):
        with pytest.raises(UploadOfOtherContent):
            await system.service.access.write(ANN, elsewhere, parts(b"y"))


@places
async def test_an_upload_ends_with_its_allocation(system: System, place: Place) -> None:
    one = await system.lend(place, 100)
    upload_id = str(uuid.uuid4())

    async def freed() -> AsyncIterator[UploadPart]:
        yield b"x"
        await system.service.leases.delete(ANN, one.allocation_id)
        yield b"x"

    first = header(one, 100, upload_id=upload_id)
    with pytest.raises(AllocationNotFound):
        await system.service.access.write(ANN, first, freed())

    with pytest.raises(UploadNotFound):
        system.uploads.get("ann", upload_id)
    assert system.backed() == 0


@places
async def test_a_write_that_is_broken_off_leaves_whole_memory_and_no_slots(
    system: System, place: Place
) -> None:
    one = await system.lend(place, len(DATA))
    sent = asyncio.Event()

    async def stalling() -> AsyncIterator[UploadPart]:
        for chunk in chunks(DATA)[:-1]:
            yield chunk
        sent.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        system.service.access.write(ANN, header(one, len(DATA)), stalling())
    )
    await sent.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert system.backed() == len(DATA)
    assert await read(system, one, 0, 19 * MIB) == DATA[: 19 * MIB]
    await write(system, one, DATA)
    assert await read(system, one) == DATA


@places
async def test_freed_in_the_middle_both_ways_end(system: System, place: Place) -> None:
    one = await system.lend(place, len(DATA))
    await write(system, one, DATA)
    reading = system.service.access.read(ANN, one.allocation_id, 0, 0)
    await anext(reading)
    await system.service.leases.delete(ANN, one.allocation_id)

    with pytest.raises(AllocationNotFound):
        async for _ in reading:
            pass
    with pytest.raises(AllocationNotFound):
        await write(system, one, DATA)
    assert system.backed() == 0


@places
async def test_what_a_copy_uses_is_not_written(system: System, place: Place) -> None:
    one, other = await system.lend(place), await system.lend(HOST)

    async with system.ledger.copying(ANN, one.allocation_id, other.allocation_id):
        for busy in (one, other):
            with pytest.raises(AllocationBusy):
                await write(system, busy, b"x")
        assert len(await read(system, one)) == MIB
    assert await write(system, one, b"x") == 1


async def test_a_worker_that_dies_ends_the_write(system: System) -> None:
    one = await system.lend(CARD, len(DATA))
    system.buffers.gate.clear()
    writing = asyncio.create_task(write(system, one, DATA))
    await asyncio.sleep(0.05)
    system.buffers.lose("cuda:0")
    system.buffers.gate.set()

    with pytest.raises(DomainError) as lost:
        await writing

    assert lost.value.reason in (Reason.WORKER_LOST, Reason.ALLOCATION_NOT_FOUND)
    assert system.backed() == 0
