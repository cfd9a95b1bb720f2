"""Buffers inside a worker: of a processor, and of devices that torch drives.

The processor stands in for a device without streams, and for one with: there copies are
over when they are called, and what is tested is which bytes go where, and when it stops.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from domains.errors import (
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from domains.memory.backends.chunks import Guard
from domains.memory.backends.mapping import Mapping
from domains.memory.backends.opened import OpenedSegment
from domains.memory.backends.process_buffers import ProcessBuffers
from domains.memory.backends.streams import Stream
from domains.memory.backends.torch_buffers import TorchBuffers
from domains.memory.types import BufferRegion, Move, Segment, SegmentRegion

PROCESSOR = torch.device("cpu")
LENGTH = (40 << 20) + 17  # more than two bounces and one chunk, and no multiple of them


class EagerStream(Stream):
    """A stream whose work is done at once, that knows which marks nobody has waited for."""

    def __init__(self) -> None:
        super().__init__(PROCESSOR)
        self.overlaps = True
        self.open: deque[object] = deque()
        self.most_open = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        yield
        self.open.clear()

    def mark(self) -> Any:
        stream = self

        class Mark:
            def synchronize(self) -> None:
                stream.open.remove(self)

        mark = Mark()
        self.open.append(mark)
        self.most_open = max(self.most_open, len(self.open))
        return mark

    def pinned(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8)


MAKERS: dict[str, Callable[[], Any]] = {
    "process": ProcessBuffers,
    "blocking": lambda: TorchBuffers(PROCESSOR),
    "overlapping": lambda: TorchBuffers(PROCESSOR, EagerStream()),
}
if torch.cuda.is_available():
    MAKERS["device"] = lambda: TorchBuffers(torch.device("cuda:0"))


@pytest.fixture(params=list(MAKERS))
def buffers(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param]()


@pytest.fixture(params=["huge pages", "small pages"])
def mapping(request: pytest.FixtureRequest) -> Iterator[Mapping]:
    mapping = Mapping(LENGTH + 100)
    # What a segment says of its pages decides how it is reached, not whether it can be.
    huge = request.param == "huge pages"
    mapping.segment = replace(mapping.segment, huge_pages=huge)
    yield mapping
    mapping.close()


@pytest.fixture(scope="module")
def data() -> bytes:
    generator = torch.Generator().manual_seed(5)
    bits = torch.randint(0, 256, (LENGTH,), generator=generator, dtype=torch.uint8)
    return bits.numpy().tobytes()


def guard(seen: list[int] | None = None) -> Guard:
    return Guard((seen if seen is not None else []).append, lambda: None)


def stopped_after(calls: int) -> Guard:
    left = [calls]

    def check_stop() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cancelled("Enough.")

    return Guard(lambda _done: None, check_stop)


def write(mapping: Mapping, offset: int, data: bytes) -> None:
    opened = OpenedSegment(mapping.segment)
    ctypes.memmove(opened.address + offset, data, len(data))
    opened.close()


def read(mapping: Mapping, offset: int, length: int) -> bytes:
    opened = OpenedSegment(mapping.segment)
    data = ctypes.string_at(opened.address + offset, length)
    opened.close()
    return data


def test_bytes_go_in_across_and_out_again(buffers: Any, mapping: Mapping, data: bytes) -> None:
    write(mapping, 7, data)
    for name in ("one", "other"):
        buffers.allocate(name, LENGTH + 3, guard())
    assert buffers.leased_bytes == 2 * (LENGTH + 3)
    segment = mapping.segment
    steps: list[int] = []
    for source, target in (
        (SegmentRegion(segment, 7), BufferRegion("one", 1)),
        (BufferRegion("one", 1), BufferRegion("other", 2)),
        (BufferRegion("other", 2), SegmentRegion(segment, 50)),
    ):
        steps.clear()
        buffers.move(Move(source, target, LENGTH), guard(steps))
        assert steps == sorted(steps)
        assert steps[-1] == LENGTH
    assert read(mapping, 50, LENGTH) == data
    # Beside what was written everything is zero still.
    buffers.move(Move(BufferRegion("other"), SegmentRegion(segment), 3), guard())
    assert read(mapping, 0, 3) == b"\0\0" + data[:1]
    assert buffers.free("one") == LENGTH + 3
    assert buffers.leased_bytes == LENGTH + 3


def test_a_stopped_move_stops_between_chunks(buffers: Any, mapping: Mapping) -> None:
    buffers.allocate("target", LENGTH, guard())
    segment = SegmentRegion(mapping.segment)
    for source, target in (
        (segment, BufferRegion("target")),
        (BufferRegion("target"), segment),
    ):
        with pytest.raises(Cancelled):
            buffers.move(Move(source, target, LENGTH), stopped_after(1))
        # And the next one is none the worse for it.
        steps: list[int] = []
        buffers.move(Move(source, target, 5), guard(steps))
        assert steps == [5]


def test_names_and_regions_are_checked(buffers: Any, mapping: Mapping) -> None:
    buffers.allocate("small", 10, guard())
    with pytest.raises(AlreadyExists) as taken:
        buffers.allocate("small", 10, guard())
    assert taken.value.reason is Reason.NAME_TAKEN
    with pytest.raises(NotFound):
        buffers.free("other")
    segment = SegmentRegion(mapping.segment)
    with pytest.raises(OutOfRange):
        buffers.move(Move(BufferRegion("small", 1), segment, 10), guard())
    with pytest.raises(OutOfRange):
        buffers.move(Move(segment, BufferRegion("small", 11), 1), guard())
    beyond = SegmentRegion(mapping.segment, mapping.segment.size_bytes)
    with pytest.raises(OutOfRange):
        buffers.move(Move(beyond, BufferRegion("small"), 1), guard())
    with pytest.raises(NotFound):
        buffers.move(Move(BufferRegion("other"), segment, 1), guard())
    gone = Segment("/proc/self/fd/9999", 10)
    claimed = Segment(mapping.segment.name, mapping.segment.size_bytes + 1)
    for absent in (gone, claimed):
        for move in (
            Move(SegmentRegion(absent), BufferRegion("small"), 1),
            Move(BufferRegion("small"), SegmentRegion(absent), 1),
        ):
            with pytest.raises(FailedPrecondition):
                buffers.move(move, guard())


def test_copies_of_the_device_and_of_the_processor_take_turns(
    mapping: Mapping, data: bytes
) -> None:
    stream = EagerStream()
    buffers = TorchBuffers(PROCESSOR, stream)
    buffers.allocate("target", LENGTH, guard())
    buffers.move(Move(SegmentRegion(mapping.segment), BufferRegion("target"), LENGTH), guard())
    # Two are under way at the same time, never three: there are two bounces.
    assert stream.most_open == 2


def test_main_memory_is_refused_before_it_is_touched() -> None:
    buffers = ProcessBuffers(lambda: (256 << 20) + 1000)
    with pytest.raises(ResourceExhausted) as refused:
        buffers.allocate("large", 1001, guard())
    assert refused.value.reason is Reason.HOST_OUT_OF_MEMORY
    assert refused.value.metadata == {"needed_bytes": "1001", "free_bytes": "1000"}
    assert buffers.leased_bytes == 0
    buffers.allocate("large", 1000, guard())
    boundless = ProcessBuffers(lambda: 1 << 62)
    with pytest.raises(ResourceExhausted):
        boundless.allocate("absurd", 1 << 60, guard())


def test_an_allocation_can_be_stopped_while_its_pages_are_taken() -> None:
    buffers = ProcessBuffers()
    with pytest.raises(Cancelled):
        buffers.allocate("large", 70 << 20, stopped_after(1))
    assert buffers.leased_bytes == 0
    with pytest.raises(NotFound):
        buffers.free("large")


def test_a_freed_buffer_stays_until_the_move_from_it_is_over(
    mapping: Mapping, data: bytes
) -> None:
    buffers = ProcessBuffers()
    buffers.allocate("source", LENGTH, guard())
    write(mapping, 0, data)
    freeing = threading.Event()

    def free_at_once(_done: int) -> None:
        if not freeing.is_set():
            freeing.set()
            buffers.free("source")

    move = Move(BufferRegion("source"), SegmentRegion(mapping.segment), LENGTH)
    buffers.move(move, Guard(free_at_once, lambda: None))
    assert freeing.is_set()
    assert read(mapping, 0, LENGTH) == bytes(LENGTH)


def test_what_torch_says_of_memory_and_loss_is_said_in_the_domains_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffers = TorchBuffers(torch.device("meta"))  # the processor cannot be lost
    for text, kind, reason in (
        ("CUDA out of memory. Tried to", ResourceExhausted, Reason.DEVICE_OUT_OF_MEMORY),
        ("CUDA error: an illegal memory access", Unavailable, Reason.DEVICE_LOST),
    ):

        def fail(*_arguments: object, text: str = text, **_options: object) -> None:
            raise RuntimeError(text)

        monkeypatch.setattr(torch, "zeros", fail)
        with pytest.raises(kind) as refused:
            buffers.allocate("buffer", 123, guard())
        assert refused.value.reason is reason
    assert buffers.leased_bytes == 0


@pytest.mark.parametrize("maker", ["process", "blocking"])
def test_nothing_is_pinned_where_no_driver_can(maker: str, mapping: Mapping) -> None:
    buffers = MAKERS[maker]()
    with pytest.raises(FailedPrecondition) as refused:
        buffers.pin(mapping.segment)
    assert refused.value.reason is Reason.DEVICE_UNSUPPORTED
    buffers.unpin(mapping.segment)


class Runtime:
    """A driver that page-locks until it is told to refuse."""

    def __init__(self) -> None:
        self.code = 0
        self.locked: dict[int, int] = {}

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        if self.code == 0:
            self.locked[address] = size
        return self.code

    def cudaHostUnregister(self, address: int) -> int:
        del self.locked[address]
        return 0


def test_a_driver_pins_each_segment_once_and_can_refuse(
    monkeypatch: pytest.MonkeyPatch, mapping: Mapping, data: bytes
) -> None:
    runtime = Runtime()
    buffers = TorchBuffers(PROCESSOR, EagerStream())
    monkeypatch.setattr(buffers, "_runtime", lambda: runtime)
    for _ in range(2):
        buffers.pin(mapping.segment)
    assert list(runtime.locked.values()) == [mapping.segment.size_bytes]
    write(mapping, 0, data)
    buffers.allocate("target", LENGTH, guard())
    into = Move(SegmentRegion(mapping.segment), BufferRegion("target"), LENGTH)
    buffers.move(into, guard())
    out = Move(BufferRegion("target"), SegmentRegion(mapping.segment, 100), LENGTH)
    buffers.move(out, guard())
    assert read(mapping, 100, LENGTH) == data
    for _ in range(2):
        buffers.unpin(mapping.segment)
    assert runtime.locked == {}
    for code, kind in ((2, ResourceExhausted), (801, FailedPrecondition)):
        runtime.code = code
        with pytest.raises(kind):
            buffers.pin(mapping.segment)
    runtime.code = 0
    buffers.pin(mapping.segment)
    buffers.unpin(mapping.segment)


def test_what_was_pinned_is_not_taken_for_memory_that_has_its_name_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime, words = Runtime(), b"of the later one"
    buffers = TorchBuffers(PROCESSOR, EagerStream())
    monkeypatch.setattr(buffers, "_runtime", lambda: runtime)
    gone = Mapping(LENGTH)
    buffers.pin(gone.segment)
    gone.close()
    later = Mapping(LENGTH)
    assert later.segment.name == gone.segment.name
    write(later, 0, words)
    buffers.allocate("buffer", LENGTH, guard())
    buffer, segment = BufferRegion("buffer"), SegmentRegion(later.segment)
    buffers.move(Move(segment, buffer, len(words)), guard())
    buffers.move(Move(buffer, replace(segment, offset=100), len(words)), guard())
    assert read(later, 100, len(words)) == words
    buffers.pin(later.segment)
    assert len(runtime.locked) == 2
    for mapping in (gone, later):
        buffers.unpin(mapping.segment)
    assert runtime.locked == {}
    later.close()


def test_a_named_block_outlives_whoever_opened_it() -> None:
    block = SharedMemory(create=True, size=100)
    try:
        assert block.buf is not None
        block.buf[:3] = b"abc"
        opened = OpenedSegment(Segment(block.name, 100))
        assert ctypes.string_at(opened.address, 3) == b"abc"
        ctypes.memmove(opened.address + 3, b"d", 1)
        opened.close()
        assert bytes(block.buf[:4]) == b"abcd"
        again = OpenedSegment(Segment(block.name, 100))
        again.close()
    finally:
        block.close()
        block.unlink()
