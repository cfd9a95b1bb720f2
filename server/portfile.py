"""The port file: how the command line finds the server of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from domains.own_threads import in_own_thread
from domains.regular_files import read_regular
from domains.set_aside import set_aside
from domains.whole_files import whole_file

NAME = "server.json"
_LONGEST_BYTES = 4096
_AGAIN_SECONDS = 5.0
_END_SECONDS = 2.0
_log = logging.getLogger("deviceops.files")


@dataclass(frozen=True)
class ServerLocation:
    """A running server, as it wrote it down when its port was bound."""

    address: str
    """`host:port`, an IPv6 host in brackets."""
    pid: int
    tls: bool
    auth: bool


def write(runtime_dir: Path, location: ServerLocation) -> None:
    """Write it down, replacing an older one at once and whole.

    What lies there and is no regular file is set aside; a folder that went is made again.

    Raises:
        OSError: It cannot be written.
    """
    runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = runtime_dir / NAME
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            set_aside(path, "it is no regular file")
    with whole_file(path) as file:
        file.write(json.dumps(asdict(location)).encode())


def read(runtime_dir: Path) -> ServerLocation | None:
    """The server that wrote it, running or not; None without a readable port file."""
    try:
        values = json.loads(read_regular(runtime_dir / NAME, _LONGEST_BYTES))
        return ServerLocation(
            address=str(values["address"]),
            pid=int(values["pid"]),
            tls=bool(values["tls"]),
            auth=bool(values["auth"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def remove(runtime_dir: Path, pid: int) -> None:
    """Remove it if it is that process's own; another server's stays."""
    location = read(runtime_dir)
    if location is not None and location.pid == pid:
        (runtime_dir / NAME).unlink(missing_ok=True)


class Announcement:
    """A server's port file, kept there for as long as the server answers.

    A disk that takes nothing is logged once and tried again: calls are answered meanwhile.

    Args:
        runtime_dir: Where it lies.
        location: What it says.
    """

    def __init__(self, runtime_dir: Path, location: ServerLocation) -> None:
        self._runtime_dir = runtime_dir
        self._location = location
        self._complained = False

    def make(self) -> None:
        """Write it, in place of any other server's."""
        try:
            write(self._runtime_dir, self._location)
        except OSError as error:
            if not self._complained:
                _log.error(
                    "%s cannot be written (%s): until it can, name the server with --server %s",
                    *(NAME, error.strerror or error, self._location.address),
                )
            self._complained = True
        else:
            self._complained = False

    async def keep(self) -> None:
        """Write it again whenever it is gone; ends by being cancelled."""
        while True:
            await asyncio.sleep(_AGAIN_SECONDS)
            if await asyncio.to_thread(read, self._runtime_dir) is None:
                await asyncio.to_thread(self.make)

    async def end(self) -> None:
        """Remove it, unless another server has written its own since; a disk that does not
        answer is not waited for."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await in_own_thread(remove, self._runtime_dir, self._location.pid)
