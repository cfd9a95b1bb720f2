"""Bytes of buffers compared inside a worker, with bytes in main memory and with each other."""

from __future__ import annotations

from typing import Any

import pytest

from domains.errors import Cancelled, FailedPrecondition, NotFound, OutOfRange
from domains.memory.backends.mapping import Mapping
from domains.memory.types import BufferRegion, Compare, Move, Segment, SegmentRegion
from tests.domains.memory.test_buffers import (
    LENGTH,
    buffers,
    data,
    guard,
    mapping,
    stopped_after,
    write,
)

__all__ = ["buffers", "data", "mapping"]  # fixtures


def filled(buffers: Any, mapping: Mapping, data: bytes) -> None:
    """`data` at 7 of the segment, at 1 of "one" and at 2 of "other"."""
    write(mapping, 7, data)
    for name, offset in (("one", 1), ("other", 2)):
        buffers.allocate(name, LENGTH + 3, guard())
        there = BufferRegion(name, offset)
        buffers.move(Move(SegmentRegion(mapping.segment, 7), there, LENGTH), guard())


def test_the_same_bytes_are_equal_to_the_last(
    buffers: Any, mapping: Mapping, data: bytes
) -> None:
    filled(buffers, mapping, data)
    segment, one, other = (
        SegmentRegion(mapping.segment, 7),
        BufferRegion("one", 1),
        BufferRegion("other", 2),
    )
    for first, second in ((segment, one), (one, segment), (one, other), (one, one)):
        steps: list[int] = []
        assert buffers.compare(Compare(first, second, LENGTH), guard(steps)) == LENGTH
        assert steps == sorted(steps)
        assert steps[-1] == LENGTH


def test_one_different_byte_is_found(buffers: Any, mapping: Mapping, data: bytes) -> None:
    filled(buffers, mapping, data)
    segment, one, other = (
        SegmentRegion(mapping.segment, 7),
        BufferRegion("one", 1),
        BufferRegion("other", 2),
    )
    # The last one first: what differs closest to the start is found.
    for place in (LENGTH - 1, LENGTH // 3, 0):
        write(mapping, 7 + place, bytes([data[place] ^ 1]))
        there = SegmentRegion(mapping.segment, 7 + place)
        for first, second in ((segment, one), (one, segment)):
            assert buffers.compare(Compare(first, second, LENGTH), guard()) <= place
        buffers.move(Move(there, BufferRegion("other", 2 + place), 1), guard())
        assert buffers.compare(Compare(one, other, LENGTH), guard()) <= place


def test_a_stopped_comparison_stops_between_chunks(
    buffers: Any, mapping: Mapping, data: bytes
) -> None:
    filled(buffers, mapping, data)
    segment, one = SegmentRegion(mapping.segment, 7), BufferRegion("one", 1)
    compare = Compare(segment, one, LENGTH)
    with pytest.raises(Cancelled):
        buffers.compare(compare, stopped_after(1))
    assert buffers.compare(compare, guard()) == LENGTH


def test_names_and_regions_are_checked(buffers: Any, mapping: Mapping) -> None:
    buffers.allocate("small", 10, guard())
    segment, small = SegmentRegion(mapping.segment), BufferRegion("small")
    end = SegmentRegion(mapping.segment, mapping.segment.size_bytes)
    gone = SegmentRegion(Segment("/proc/self/fd/9999", 10))
    for first, second, refusal in (
        (small, BufferRegion("nobody"), NotFound),
        (segment, BufferRegion("nobody"), NotFound),
        (segment, BufferRegion("small", 10), OutOfRange),
        (end, small, OutOfRange),
        (small, gone, FailedPrecondition),
    ):
        with pytest.raises(refusal):
            buffers.compare(Compare(first, second, 1), guard())
