"""The wire between the front and one worker: frames of bytes over a private connection.

A unix socket in a folder of its own that only this user can enter, or a named pipe on
Windows; both ends prove a key that travels on the child's standard input. Only
`send_bytes` and `recv_bytes` are used: nothing is ever unpickled.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, TypeAlias

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection

    AnyConnection: TypeAlias = Connection[Any, Any] | PipeConnection[Any, Any]
else:
    AnyConnection: TypeAlias = Connection

MAX_FRAME_BYTES = 1 << 20
KEY_BYTES = 32
# What a stranger, or a child with the wrong key, can make the handshake raise.
_HANDSHAKE_FAILED = (
    AuthenticationError,
    EOFError,
    ConnectionError,
    AssertionError,
    ValueError,
)


class LinkClosed(Exception):
    """The other end is gone, or this one was closed."""


class OversizedFrame(Exception):
    """The other end announced a frame larger than MAX_FRAME_BYTES."""


class Link:
    """One end of the connection. Sending is safe from several threads, receiving is not."""

    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, frame: bytes) -> None:
        """Send one frame; blocks while the other end does not read.

        Raises:
            LinkClosed: The other end is gone.
            ValueError: The frame is too large.
        """
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes is larger than the link takes")
        with self._sending:
            try:
                self._connection.send_bytes(frame)
            except OSError as error:
                raise LinkClosed from error

    def receive(self) -> bytes:
        """The next frame; blocks until there is one.

        Raises:
            LinkClosed: The other end is gone.
            OversizedFrame: The link cannot be used any more.
        """
        try:
            return self._connection.recv_bytes(MAX_FRAME_BYTES)
        except EOFError as error:
            raise LinkClosed from error
        except OSError as error:
            if error.args == ("bad message length",):
                raise OversizedFrame from error
            raise LinkClosed from error

    def close(self) -> None:
        """Close this end; waits for a send under way, which a dead peer ends."""
        with self._sending:
            self._connection.close()


class LinkListener:
    """The front's end before the worker has connected; for one worker only."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        self._folder: Path | None = None
        if sys.platform == "win32":
            address, family = rf"\\.\pipe\deviceops-{secrets.token_hex(16)}", "AF_PIPE"
        else:
            # A short path: the system allows about a hundred characters.
            self._folder = Path(tempfile.mkdtemp(prefix="deviceops-"))
            address, family = os.fspath(self._folder / "link"), "AF_UNIX"
        self.address = address
        self._listener = Listener(address, family, backlog=4, authkey=self.key)
        self._abandoned = threading.Event()

    def accept(self) -> Link:
        """Wait for the worker; whoever does not know the key is turned away.

        Raises:
            LinkClosed: `abandon` was called.
        """
        while not self._abandoned.is_set():
            try:
                return Link(self._listener.accept())
            except _HANDSHAKE_FAILED:
                continue
            except OSError as error:
                raise LinkClosed from error
        raise LinkClosed

    def abandon(self) -> None:
        """End `accept` in another thread. The worker must be dead by now."""
        self._abandoned.set()
        # Closing a listener does not wake who waits on it; a caller without a key does.
        try:
            Client(self.address).close()
        except OSError:
            return

    def close(self) -> None:
        """Take the address off the machine; links that were made stay."""
        self._listener.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def connect(address: str, key: bytes) -> Link:
    """The worker's end.

    Raises:
        LinkClosed: Nobody listens there, or the key is not theirs.
    """
    try:
        return Link(Client(address, authkey=key))
    except (*_HANDSHAKE_FAILED, OSError) as error:
        raise LinkClosed from error
