"""Stand-ins for main memory, for the buffers of devices' workers and for their models."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from domains.device.jobs import ReleaseJob, ReleaseReport
from domains.device.types import DeviceFigures, LoadedComponent
from domains.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.memory.ports import HostBuffers
from domains.memory.types import (
    BufferRegion,
    Compare,
    HeldComponent,
    History,
    HostMemory,
    Move,
    Reading,
    Region,
    Segment,
)
from domains.session.jobs import Job
from domains.values import ByteFigure, EvictionCause, TensorDataType
from server.history import HistoryTables
from server.journal_schema import migrate

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)
CHUNK = 1 << 16


def measured(value: int) -> ByteFigure:
    """A figure of a fake."""
    return ByteFigure.measured(value, "a fake")


class FakeHost:
    """Main memory as it is told to be: 1,000 bytes, or as many as wanted."""

    def __init__(self, total: int = 1000, available: int = 600, ours: int = 100) -> None:
        self.memory = HostMemory(
            total=measured(total),
            available=measured(available),
            used_by_server=measured(ours),
            swap_total=measured(0),
            swap_used=measured(0),
        )

    def read(self) -> HostMemory:
        return self.memory

    def use(self, share: float) -> None:
        """Let so much of it be used."""
        total = self.memory.total.value or 0
        self.memory = replace(self.memory, available=measured(round(total * (1 - share))))


class FakeMeter:
    """Device figures as they are told to be, by device id."""

    def __init__(self) -> None:
        self.known: dict[str, DeviceFigures] = {}

    def figures(self, device_id: str) -> DeviceFigures | None:
        return self.known.get(device_id)

    def tell(self, device_id: str, total: int, free: int, **changes: int) -> None:
        """The device's worker says so much; `changes` are allocated, reserved, leased."""
        self.known[device_id] = DeviceFigures(
            total=measured(total),
            free=measured(free),
            allocated=measured(changes.get("allocated", 0)),
            reserved=measured(changes.get("reserved", 0)),
            peak_allocated=measured(0),
            largest_free=measured(free),
            inactive_split=measured(0),
            leased_bytes=changes.get("leased", 0),
            models=(),
            read_time=MOMENT,
        )


@dataclass
class FakeBuffers:
    """Device buffers in this process, moved in small chunks through the real segments.

    `capacity` bounds each device; moves set `begun` and wait for `gate`; `corrupt` flips the
    first byte that a move writes into a buffer.
    """

    host: HostBuffers
    capacity: int = 1 << 30
    buffers: dict[tuple[str, str], bytearray] = field(default_factory=dict)
    pinned: set[tuple[str, str]] = field(default_factory=set)
    can_pin: bool = True
    corrupt: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    moves: list[tuple[str, int]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    listeners: list[Callable[[str], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def held(self, device_id: str) -> int:
        """Bytes of a device's buffers."""
        return sum(
            len(data) for (device, _), data in self.buffers.items() if device == device_id
        )

    def lose(self, device_id: str) -> None:
        """The device's worker dies."""
        self.lost.add(device_id)
        for key in [key for key in self.buffers if key[0] == device_id]:
            del self.buffers[key]
        for listener in tuple(self.listeners):
            listener(device_id)

    async def allocate(self, device_id: str, buffer_id: str, size: int) -> None:
        await asyncio.sleep(0)
        self._alive(device_id)
        if (device_id, buffer_id) in self.buffers:
            raise AlreadyExists("There is one.", reason=Reason.NAME_TAKEN)
        if self.held(device_id) + size > self.capacity:
            raise ResourceExhausted("Full.", reason=Reason.DEVICE_OUT_OF_MEMORY)
        self.buffers[device_id, buffer_id] = bytearray(size)

    async def free(self, device_id: str, buffer_id: str) -> int:
        await asyncio.sleep(0)
        self._alive(device_id)
        return len(self._pop(device_id, buffer_id))

    def _pop(self, device_id: str, buffer_id: str) -> bytearray:
        try:
            return self.buffers.pop((device_id, buffer_id))
        except KeyError:
            raise NotFound("Gone.", reason=Reason.ALLOCATION_NOT_FOUND) from None

    async def move(self, device_id: str, move: Move) -> AsyncGenerator[int]:
        self.moves.append((device_id, move.length))
        self.begun.set()
        for offset in range(0, move.length, CHUNK):
            await self.gate.wait()
            self._alive(device_id)
            size = min(CHUNK, move.length - offset)
            data = self._read(device_id, move.source, offset, size)
            self._write(device_id, move.target, offset, data)
            yield offset + size

    def _read(self, device_id: str, region: Region, offset: int, size: int) -> bytes:
        begin = region.offset + offset
        if isinstance(region, BufferRegion):
            return bytes(self.buffers[device_id, region.buffer_id][begin : begin + size])
        return self.host.read(structs.replace(region, offset=begin), size)

    def _write(self, device_id: str, region: Region, offset: int, data: bytes) -> None:
        begin = region.offset + offset
        if isinstance(region, BufferRegion):
            if self.corrupt:
                data = bytes([data[0] ^ 1]) + data[1:]
            self.buffers[device_id, region.buffer_id][begin : begin + len(data)] = data
        else:
            self.host.write(structs.replace(region, offset=begin), data)

    async def compare(self, device_id: str, compare: Compare) -> AsyncGenerator[int]:
        for offset in range(0, compare.length, CHUNK):
            self._alive(device_id)
            size = min(CHUNK, compare.length - offset)
            one = self._read(device_id, compare.first, offset, size)
            if one != self._read(device_id, compare.second, offset, size):
                yield offset
                return
            yield offset + size

    async def pin(self, device_id: str, segment: Segment) -> None:
        if not self.can_pin:
            raise FailedPrecondition("Cannot.", reason=Reason.DEVICE_UNSUPPORTED)
        self.pinned.add((device_id, segment.name))

    async def unpin(self, device_id: str, segment: Segment) -> None:
        self.pinned.discard((device_id, segment.name))

    async def release_cached(self, device_id: str) -> None:
        self._alive(device_id)

    def on_buffers_lost(self, listener: Callable[[str], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def _alive(self, device_id: str) -> None:
        if device_id in self.lost:
            raise Unavailable("The worker was lost.", reason=Reason.WORKER_LOST)


class FakeModels:
    """Models that devices hold, as their workers tell; `on_release` hears of each that goes."""

    def __init__(self) -> None:
        self.components: list[HeldComponent] = []
        self.released: list[str] = []
        self.causes: list[EvictionCause] = []
        self.on_release: Callable[[str], None] = lambda model_id: None
        self.busy = False
        self.drawing: dict[str, asyncio.Event] = {}  # until it is set, by device

    def hold(
        self, device_id: str, model_id: str, size: int, *, used: datetime, in_use: bool = False
    ) -> None:
        """A device holds a model of one component."""
        part = LoadedComponent(
            model_id, "unet", measured(size), TensorDataType.FLOAT32, used, in_use
        )
        self.components.append(HeldComponent(device_id, part))

    @contextmanager
    def leaving(self, model_id: str, device_id: str, cause: EvictionCause) -> Iterator[None]:
        there = len(self.components)
        yield
        assert len(self.components) < there, "told beside what takes the model off"
        self.causes.append(cause)

    def figures(self, device_id: str) -> DeviceFigures:
        known = FakeMeter()
        known.tell(device_id, 0, 0)
        models = (one.component for one in self.components if one.device_id == device_id)
        return structs.replace(known.known[device_id], models=tuple(models))

    async def run(
        self, device_id: str, session_id: str, job: Job[Any], *, remaining: float
    ) -> AsyncGenerator[Any]:
        assert isinstance(job, ReleaseJob)
        if self.busy:
            raise Unavailable("The worker was lost.", reason=Reason.WORKER_LOST)
        if device_id in self.drawing:
            await self.drawing[device_id].wait()
        going = [
            one
            for one in self.components
            if one.device_id == device_id and one.component.model_id in job.model_ids
        ]
        self.components = [one for one in self.components if one not in going]
        for one in going:
            self.released.append(one.component.model_id)
            self.on_release(one.component.model_id)
        yield ReleaseReport(tuple(one.component for one in going))


class FakeCached:
    """Models that main memory keeps."""

    def __init__(self) -> None:
        self.kept: dict[str, LoadedComponent] = {}
        self.pins: set[str] = set()
        self.evicted: list[str] = []
        self.causes: list[EvictionCause] = []
        self.busy: set[str] = set()  # work begins to use them when they are to go
        self.on_evict: Callable[[str], None] = lambda model_id: None

    def keep(self, model_id: str, size: int, *, used: datetime, in_use: bool = False) -> None:
        """Main memory keeps a model."""
        part = LoadedComponent(model_id, "files", measured(size), None, used, in_use)
        self.kept[model_id] = part

    def components(self) -> tuple[LoadedComponent, ...]:
        return tuple(self.kept.values())

    def pinned(self, model_id: str) -> bool:
        return model_id in self.pins

    async def evict(self, model_id: str, cause: EvictionCause) -> bool:
        if model_id in self.busy:
            return False
        del self.kept[model_id]
        self.causes.append(cause)
        self.evicted.append(model_id)
        self.on_evict(model_id)
        return True


class FakeHistory:
    """The history in the journal's own tables, without its threads and its file."""

    def __init__(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(connection)
        self.tables = HistoryTables(connection)

    def record(self, moment: float, readings: Sequence[Reading]) -> None:
        self.tables.add(moment, readings)

    async def histories(self, since: float, until: float, points: int) -> tuple[History, ...]:
        return self.tables.histories(since, until, points)
