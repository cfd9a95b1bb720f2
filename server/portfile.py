"""The port file: how the command line finds the server of this machine."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "server.json"


@dataclass(frozen=True)
class ServerLocation:
    """A running server, as it wrote it down when its port was bound."""

    address: str
    """`host:port`, an IPv6 host in brackets."""
    pid: int
    tls: bool
    auth: bool


def write(runtime_dir: Path, location: ServerLocation) -> None:
    """Write it down, replacing an older one at once and whole."""
    descriptor, aside = tempfile.mkstemp(dir=runtime_dir, prefix=NAME + ".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(location), file)
        os.replace(aside, runtime_dir / NAME)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def read(runtime_dir: Path) -> ServerLocation | None:
    """The server that wrote it, running or not; None without a readable port file."""
    try:
        values = json.loads((runtime_dir / NAME).read_text(encoding="utf-8"))
        return ServerLocation(
            address=str(values["address"]),
            pid=int(values["pid"]),
            tls=bool(values["tls"]),
            auth=bool(values["auth"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(runtime_dir: Path, pid: int) -> None:
    """Remove it if it is that process's own; another server's stays."""
    location = read(runtime_dir)
    if location is not None and location.pid == pid:
        (runtime_dir / NAME).unlink(missing_ok=True)
