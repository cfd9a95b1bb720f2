"""What a worker is given at its start, on standard input: nobody else can read that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from domains.codec import ByteCount, Count, Name, Value, decode_json, encode_json
from domains.device.types import OptimizationProfile


class StartRecord(Value, frozen=True):
    """Where to report to, for which device; `key` proves both ends to each other."""

    address: Annotated[str, Meta(max_length=512)]
    key: Annotated[bytes, Meta(max_length=64)]
    device_id: Name
    torch_device: Annotated[str, Meta(max_length=64)]
    spool_dir: Path
    log_level: Name
    parent_process_id: Annotated[int, Meta(ge=0, le=2**32)]
    profile: OptimizationProfile = OptimizationProfile.BALANCED
    """What it is to run with."""
    code_dir: Path | None = None
    """Where compiled code of all workers lies; None: nothing is compiled."""

    def to_bytes(self) -> bytes:
        """As one line of JSON."""
        return encode_json(self) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> StartRecord:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: It is not such a record.
        """
        return decode_json(cls, data)


class InspectorRecord(Value, frozen=True):
    """Where an inspector reports to, and how much memory and processor time it may take."""

    address: Annotated[str, Meta(max_length=512)]
    key: Annotated[bytes, Meta(max_length=64)]
    log_level: Name
    parent_process_id: Annotated[int, Meta(ge=0, le=2**32)]
    memory_bytes: ByteCount
    cpu_seconds: Count

    def to_bytes(self) -> bytes:
        """As one line of JSON."""
        return encode_json(self) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> InspectorRecord:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: It is not such a record.
        """
        return decode_json(cls, data)
