"""Regions of memory that bytes move between."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Host memory that processes of this server share, by name.

    `name` is what another process opens: `/proc/<pid>/fd/<n>` of a memfd on Linux, the
    name of a `multiprocessing.shared_memory` block elsewhere.

    `huge_pages`: all of it but the rest lies in huge pages, so that mapping it costs next
    to nothing.
    """

    name: str
    size_bytes: int
    huge_pages: bool = False


@dataclass(frozen=True)
class SegmentRegion:
    """Shared host memory from byte `offset` on."""

    segment: Segment
    offset: int = 0


@dataclass(frozen=True)
class BufferRegion:
    """A device buffer from byte `offset` on."""

    buffer_id: str
    offset: int = 0


Region = SegmentRegion | BufferRegion


@dataclass(frozen=True)
class Move:
    """Copy `length` bytes between regions a device's worker reaches; the source stays.

    At least one region is a buffer of that device, and they do not overlap.
    """

    source: Region
    target: Region
    length: int


@dataclass(frozen=True)
class Compare:
    """Compare `length` bytes of two regions that a device's worker reaches.

    At least one region is a buffer of that device.
    """

    first: Region
    second: Region
    length: int
