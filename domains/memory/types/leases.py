"""Memory that is lent, and what clients do with its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from domains.memory.types.places import Place
from domains.session.types import SessionOptions
from domains.values import ByteFigure


@dataclass(frozen=True)
class Allocation:
    """Memory lent to a client until `lease_expire_time`, unless renewed."""

    allocation_id: str
    client: str
    label: str
    place: Place
    size_bytes: int
    create_time: datetime
    lease_expire_time: datetime


@dataclass(frozen=True)
class AllocationRequest:
    """What a client asks `Allocate` for; `lease_seconds` from now on.

    `place` None is a request that names none. All memory is zeroed, asked for or not;
    `zeroed` tells two requests of one request_id apart.
    """

    place: Place | None
    size_bytes: int
    lease_seconds: float = 60.0
    label: str = ""
    zeroed: bool = False
    request_id: str = ""


@dataclass(frozen=True)
class Reconciliation:
    """What the ledger says of a place, and what its allocator reports for the leases."""

    place: Place
    ledger_bytes: int
    allocator: ByteFigure


@dataclass(frozen=True)
class CopyRequest:
    """Copy bytes of one allocation into another; a `length` of 0 is to the source's end."""

    source_id: str
    target_id: str
    source_offset: int = 0
    target_offset: int = 0
    length: int = 0
    verify: bool = True
    options: SessionOptions = field(default_factory=SessionOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class TransferRequest:
    """Move an allocation to another place; `place` None is a request that names none."""

    allocation_id: str
    place: Place | None
    verify: bool = True
    options: SessionOptions = field(default_factory=SessionOptions)
    digest: bytes = b""


@dataclass(frozen=True)
class WriteHeader:
    """First part of a write: where its bytes go."""

    allocation_id: str
    offset: int = 0


@dataclass(frozen=True)
class WriteEnd:
    """Last part of a write: SHA-256 of all its bytes, in lower-case hexadecimal."""

    sha256: str


WritePart = WriteHeader | bytes | WriteEnd


@dataclass(frozen=True)
class ReadChunk:
    """Bytes of an allocation from `offset` on; the last one has the SHA-256 of all."""

    offset: int
    data: bytes
    sha256: str = ""
