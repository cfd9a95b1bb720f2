"""The wire between the front and one worker: frames of bytes over a private connection.

Two joined sockets, one of which the worker inherits, or a named pipe on Windows; both ends
prove a key that travels on the child's standard input. Only `send_bytes` and `recv_bytes`
are used: nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import sys
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, TypeAlias

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection

    AnyConnection: TypeAlias = Connection[Any, Any] | PipeConnection[Any, Any]
else:
    AnyConnection: TypeAlias = Connection

MAX_FRAME_BYTES = 1 << 20
KEY_BYTES = 32
_NONCE_BYTES = 32
_FRONT, _WORKER = b"front", b"worker"
_INHERITED = "descriptor:"
# What a stranger, or a child with the wrong key, can make the handshake raise.
_HANDSHAKE_FAILED = (AuthenticationError, EOFError, OSError)


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


def _meet_worker(connection: AnyConnection, key: bytes) -> None:
    """Have the other end prove that it has the key, and prove it in turn.

    Not as multiprocessing does it: with Python 3.11 that takes MD5, which a system in FIPS mode
    does not have.

    Raises:
        AuthenticationError: It has another one.
        EOFError: It is gone.
        OSError: Likewise, or it says too much.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    connection.send_bytes(nonce)
    said = connection.recv_bytes(2 * _NONCE_BYTES)
    theirs = said[:_NONCE_BYTES]
    if not hmac.compare_digest(said[_NONCE_BYTES:], _proof(key, _WORKER, nonce, theirs)):
        connection.send_bytes(b"")  # which is none
        raise AuthenticationError("the worker has another key")
    connection.send_bytes(_proof(key, _FRONT, nonce, theirs))


def _meet_front(connection: AnyConnection, key: bytes) -> None:
    """The worker's side of `_meet_worker`."""
    theirs = connection.recv_bytes(_NONCE_BYTES)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    connection.send_bytes(nonce + _proof(key, _WORKER, theirs, nonce))
    if not hmac.compare_digest(
        connection.recv_bytes(_NONCE_BYTES), _proof(key, _FRONT, theirs, nonce)
    ):
        raise AuthenticationError("the front has another key")


def _proof(key: bytes, whose: bytes, front: bytes, worker: bytes) -> bytes:
    return hmac.digest(key, whose + front + worker, "sha256")


class LinkListener:
    """The front's end behind a name, before the worker has connected; for one worker only.

    Args:
        address: The name: a pipe on Windows, a socket's path elsewhere.
    """

    descriptors: tuple[int, ...] = ()
    """What the worker's process has to inherit."""

    def __init__(self, address: str) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        self.address = address
        self._listener = Listener(address, backlog=4)
        self._abandoned = threading.Event()

    def hand_over(self) -> None:
        """The worker's process has started."""

    def accept(self) -> Link:
        """Wait for the worker; whoever does not know the key is turned away.

        Raises:
            LinkClosed: `abandon` was called.
        """
        while not self._abandoned.is_set():
            try:
                connection = self._listener.accept()
            except ConnectionError:
                continue
            except OSError as error:
                raise LinkClosed from error
            try:
                _meet_worker(connection, self.key)
            except _HANDSHAKE_FAILED:
                connection.close()
            else:
                return Link(connection)
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


class LinkPair:
    """The front's end of two joined sockets, the other of which the worker inherits.

    It has no name, so nobody else can find it, and no file that has to lie somewhere.

    Raises:
        OSError: The system has none to give.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            undo.callback(theirs.close)
            self._connection: AnyConnection = Connection(os.dup(ours.fileno()))
            undo.pop_all()
        self._ours, self._theirs = ours, theirs
        self._linked = False
        self._closing = threading.Lock()
        self.descriptors = (theirs.fileno(),)
        self.address = f"{_INHERITED}{theirs.fileno()}"

    def hand_over(self) -> None:
        """The worker's process has started: when it ends, so does the link."""
        self._theirs.close()

    def accept(self) -> Link:
        """Wait for the worker.

        Raises:
            LinkClosed: It ended or does not know the key, or `abandon` was called.
        """
        try:
            _meet_worker(self._connection, self.key)
        except _HANDSHAKE_FAILED as error:
            raise LinkClosed from error
        self._linked = True
        return Link(self._connection)

    def abandon(self) -> None:
        """End what is being received in another thread, whoever else holds the other end."""
        with self._closing, contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the sockets; a link that was made stays until it is closed itself."""
        self._theirs.close()
        with self._closing:
            self._ours.close()
        if not self._linked:
            self._connection.close()


LinkOffer: TypeAlias = LinkPair | LinkListener


def offer_link() -> LinkOffer:
    """The front's end of a link to a worker that is about to be started.

    Raises:
        OSError: The system has none to give.
    """
    if sys.platform == "win32":
        return LinkListener(rf"\\.\pipe\deviceops-{secrets.token_hex(16)}")
    return LinkPair()


def connect(address: str, key: bytes) -> Link:
    """The worker's end.

    Raises:
        LinkClosed: Nobody listens there, or the key is not theirs.
    """
    try:
        connection: AnyConnection
        if address.startswith(_INHERITED):
            handle = int(address.removeprefix(_INHERITED))
            os.set_inheritable(handle, False)  # not for what the worker starts
            connection = Connection(handle)
        else:
            connection = Client(address)
        _meet_front(connection, key)
        return Link(connection)
    except _HANDSHAKE_FAILED as error:
        raise LinkClosed from error
