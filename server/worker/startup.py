"""What a worker is told at its start, on standard input: nobody else can read that."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from domains.device.types import OptimizationProfile


@dataclass(frozen=True)
class StartRecord:
    """Where to report to, for which device; `key` proves both ends to each other."""

    address: str
    key: bytes
    device_id: str
    torch_device: str
    spool_dir: Path
    log_level: str
    parent_process_id: int
    profile: str = OptimizationProfile.BALANCED.value
    """What it is to run with, by name."""

    def to_bytes(self) -> bytes:
        """As one line of JSON."""
        values = asdict(self) | {"key": self.key.hex(), "spool_dir": str(self.spool_dir)}
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> StartRecord:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: It is not such a record.
        """
        try:
            values = json.loads(data)
            values["key"] = bytes.fromhex(values["key"])
            values["spool_dir"] = Path(values["spool_dir"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ValueError("not a start record") from error
