"""Bytes in and out: in order, hashed, within bounds, and what a broken write leaves."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from domains.errors import DomainError, Reason
from domains.memory.errors import (
    AllocationBusy,
    AllocationNotFound,
    ChecksumMismatch,
    InvalidMemoryRequest,
    OffsetOutOfRange,
    WriteIncomplete,
)
from domains.memory.types import Allocation, Place, WriteEnd, WriteHeader, WritePart
from tests.domains.memory.conftest import CARD, CPU, HOST, MIB, System

places = pytest.mark.parametrize("place", [HOST, CPU, CARD], ids=str)
DATA = random.Random(1).randbytes(19 * MIB + 77)  # more than two slots, no round number


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def parts(*items: WritePart | None) -> AsyncIterator[WritePart | None]:
    for item in items:
        await asyncio.sleep(0)
        yield item


def chunks(data: bytes) -> list[bytes]:
    return [data[offset : offset + MIB] for offset in range(0, len(data), MIB)]


async def write(system: System, one: Allocation, data: bytes, offset: int = 0) -> int:
    header = WriteHeader(one.allocation_id, offset)
    stream = parts(header, *chunks(data), WriteEnd(sha256(data)))
    return await system.service.access.write("ann", stream)


async def read(system: System, one: Allocation, offset: int = 0, length: int = 0) -> bytes:
    """The bytes, once offsets and hash have been found right."""
    data, end = b"", ""
    async for chunk in system.service.access.read("ann", one.allocation_id, offset, length):
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
    stream = parts(WriteHeader(one.allocation_id), b"a" * 100, WriteEnd(sha256(b"b" * 100)))

    with pytest.raises(ChecksumMismatch) as wrong:
        await system.service.access.write("ann", stream)

    assert wrong.value.metadata["written_bytes"] == "100"
    assert wrong.value.metadata["actual_sha256"] == sha256(b"a" * 100)
    assert await read(system, one) == b"a" * 100


@places
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ((), Reason.REQUIRED_FIELD_MISSING),
        ((b"x",), Reason.REQUIRED_FIELD_MISSING),
        ((WriteHeader("nobody"),), Reason.ALLOCATION_NOT_FOUND),
        (("H", b"x"), Reason.UPLOAD_INCOMPLETE),
        (("H", "H"), Reason.FIELDS_CONFLICT),
        (("H", None), Reason.REQUIRED_FIELD_MISSING),
        (("H", b"x" * (MIB + 1)), Reason.FIELD_OUT_OF_RANGE),
        (("H", b"x" * MIB, b"x" * MIB, b"x"), Reason.OFFSET_OUT_OF_RANGE),
        ((WriteHeader("", 1),), Reason.ALLOCATION_NOT_FOUND),
    ],
)
async def test_a_write_in_disorder_is_refused_and_leaves_nothing_behind(
    system: System, place: Place, broken: tuple[object, ...], reason: Reason
) -> None:
    one = await system.lend(place, 2 * MIB)
    header = WriteHeader(one.allocation_id)
    items = [header if item == "H" else item for item in broken]

    with pytest.raises(DomainError) as refused:
        await system.service.access.write("ann", parts(*items))  # type: ignore[arg-type]

    assert refused.value.reason is reason
    assert isinstance(
        refused.value,
        InvalidMemoryRequest | AllocationNotFound | WriteIncomplete | OffsetOutOfRange,
    )
    assert system.backed() == 2 * MIB


async def test_an_offset_past_the_end_is_out_of_range(system: System) -> None:
    one = await system.lend(HOST, 100)

    for offset, length in ((101, 0), (100, 1), (0, 101), (2**63, 2**63)):
        with pytest.raises(OffsetOutOfRange):
            await read(system, one, offset, length)
    with pytest.raises(OffsetOutOfRange):
        await write(system, one, b"", offset=101)


@places
async def test_a_write_that_is_broken_off_leaves_whole_memory_and_no_slots(
    system: System, place: Place
) -> None:
    one = await system.lend(place, len(DATA))
    sent = asyncio.Event()

    async def stalling() -> AsyncIterator[WritePart | None]:
        yield WriteHeader(one.allocation_id)
        for chunk in chunks(DATA)[:-1]:
            yield chunk
        sent.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(system.service.access.write("ann", stalling()))
    await sent.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert system.backed() == len(DATA)
    assert (await read(system, one, 0, 8 * MIB)) == DATA[: 8 * MIB]  # a slot that was sent
    await write(system, one, DATA)
    assert await read(system, one) == DATA


@places
async def test_freed_in_the_middle_both_ways_end(system: System, place: Place) -> None:
    one = await system.lend(place, len(DATA))
    await write(system, one, DATA)
    reading = system.service.access.read("ann", one.allocation_id, 0, 0)
    await anext(reading)
    await system.service.leases.deallocate("ann", one.allocation_id)

    with pytest.raises(AllocationNotFound):
        async for _ in reading:
            pass
    with pytest.raises(AllocationNotFound):
        await write(system, one, DATA)
    assert system.backed() == 0


@places
async def test_what_a_copy_uses_is_not_written(system: System, place: Place) -> None:
    one, other = await system.lend(place), await system.lend(HOST)

    async with system.ledger.copying("ann", one.allocation_id, other.allocation_id):
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
