"""Regions of memory that bytes move between."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from domains.codec import ByteCount, Name, Value

SegmentName = Annotated[str, Meta(max_length=256)]


class Segment(Value, frozen=True):
    """Host memory that processes of this server share, by name.

    `name` is what another process opens: `/proc/<pid>/fd/<n>` of a memfd on Linux, the
    name of a `multiprocessing.shared_memory` block elsewhere.

    `huge_pages`: all of it but the rest lies in huge pages, so that mapping it costs next
    to nothing.
    """

    name: SegmentName
    size_bytes: ByteCount
    huge_pages: bool = False


class SegmentRegion(Value, frozen=True):
    """Shared host memory from byte `offset` on."""

    segment: Segment
    offset: ByteCount = 0


class BufferRegion(Value, frozen=True):
    """A device buffer from byte `offset` on."""

    buffer_id: Name
    offset: ByteCount = 0


Region = SegmentRegion | BufferRegion


class Move(Value, frozen=True):
    """Copy `length` bytes between regions a device's worker reaches; the source stays.

    At least one region is a buffer of that device, and they do not overlap.
    """

    source: Region
    target: Region
    length: ByteCount


class Compare(Value, frozen=True):
    """Compare `length` bytes of two regions that a device's worker reaches.

    At least one region is a buffer of that device.
    """

    first: Region
    second: Region
    length: ByteCount
