"""Follow one session's stream to its end: cancel on Ctrl-C, re-attach when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from deviceops.v1 import event_pb2, processing_pb2, session_pb2
from server.cli.client import Client
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure, from_failure, from_rpc_error
from server.cli.interrupts import Interrupts
from server.cli.patience import Patience
from server.cli.wording import enum_word

ACCEPT_GRACE = 2.0  # seconds for the first event, which leaves the server at once
CONTROL_TIMEOUT = 5.0  # seconds for the server to note a cancel
CANCEL_GRACE = 20.0  # seconds for the current step to end after that
_TERMINAL = ("completed", "failed", "cancelled")


class EventCall(Protocol):
    """A streaming call whose messages have an `event`."""

    def __iter__(self) -> Iterator[Any]: ...

    def cancel(self) -> bool: ...


@dataclass(frozen=True)
class Ending:
    """How following a session ended.

    Args:
        session_id: Empty when the call ended before a session was accepted.
        terminal: The log's last entry; None when this side left before it.
        failure: Why it failed; None unless the terminal entry says so.
    """

    session_id: str
    terminal: event_pb2.SessionEvent | None
    failure: CallFailure | None = None

    @property
    def state(self) -> str:
        """`completed`, `failed`, `cancelled`, or `left`."""
        return (self.terminal.WhichOneof("event") or "") if self.terminal else "left"

    @property
    def exit(self) -> Exit:
        """The exit code of a command that ends with this."""
        if self.failure is not None:
            return self.failure.exit
        return Exit.OK if self.state == "completed" else Exit.CANCELLED


@dataclass(frozen=True)
class Manner:
    """How to follow.

    Args:
        cancel_on_interrupt: Ctrl-C cancels the session; else it only ends the watching.
        reattach: Watch the session again after a lost connection; for detached sessions,
            which go on without their stream.
        delivery: How events come when re-attaching.
    """

    cancel_on_interrupt: bool = True
    reattach: bool = False
    delivery: session_pb2.DeliveryOptions = field(default_factory=session_pb2.DeliveryOptions)


class Follower:
    """Follows one session over as many calls as it takes.

    Args:
        client: Where the session runs.
        handle: Gets every event, in order; what it raises ends the following.
        note: Gets sentences for the person, also from other threads.
        manner: How to follow.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        client: Client,
        *,
        handle: Callable[[event_pb2.SessionEvent], None],
        note: Callable[[str], None],
        manner: Manner,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._handle = handle
        self._note = note
        self._manner = manner
        self._sleep = sleep
        self._call: EventCall | None = None
        self._leaving = False
        self._turn = threading.Lock()  # for the two above: Ctrl-C acts on its own thread
        self._session_id = ""
        self._sequence = 0
        self._progressed = False
        self._terminal: event_pb2.SessionEvent | None = None
        self._accepted = threading.Event()
        self._grace: threading.Timer | None = None

    def follow(self, start: Callable[[], EventCall]) -> Ending:
        """Make the call and follow it to the session's end.

        Raises:
            CallFailed: The call was refused, or the connection was lost for good.
        """
        patience = Patience()
        with Interrupts(self._interrupted) as interrupts:
            self._attach(start())
            try:
                while True:
                    failure = self._read()
                    if self._terminal is not None:
                        return self._ending()
                    if interrupts.count:
                        return Ending(self._session_id, None)
                    if failure is None:
                        raise CallFailed(_cut_short(self._session_id))
                    if self._progressed:
                        patience.restore()
                        self._progressed = False
                    delay = patience.next_delay() if self._may_reattach(failure) else None
                    if delay is None:
                        raise CallFailed(self._explained(failure))
                    self._note(f"The connection was lost; watching again in {delay:g} s.")
                    self._sleep(delay)
                    if interrupts.count:
                        return Ending(self._session_id, None)
                    self._attach(self._watch())
            finally:
                self._accepted.set()
                if self._grace is not None:
                    self._grace.cancel()
                self._leave()

    def _attach(self, call: EventCall) -> None:
        """Follow this call from now on; one that comes after leaving ends at once."""
        with self._turn:
            self._call = call
            if self._leaving:
                call.cancel()

    def _leave(self) -> None:
        """End the call there is, or else the one to come."""
        with self._turn:
            self._leaving = True
            if self._call is not None:
                self._call.cancel()

    def _read(self) -> CallFailure | None:
        """Read the current call to its end; None when that was OK."""
        assert self._call is not None
        try:
            for response in self._call:
                event: event_pb2.SessionEvent = response.event
                self._session_id = event.session_id or self._session_id
                self._accepted.set()
                self._sequence = max(self._sequence, event.sequence)
                self._progressed = True
                if event.WhichOneof("event") in _TERMINAL:
                    self._terminal = event
                self._handle(event)
        except grpc.RpcError as error:
            return from_rpc_error(error)
        return None

    def _ending(self) -> Ending:
        assert self._terminal is not None
        failed = self._terminal.WhichOneof("event") == "failed"
        if not failed:
            return Ending(self._session_id, self._terminal)
        failure = self._client.advise(from_failure(self._terminal.failed.failure))
        return Ending(self._session_id, self._terminal, failure)

    def _may_reattach(self, failure: CallFailure) -> bool:
        lost = failure.status == "UNAVAILABLE" or failure.reason == "SLOW_READER"
        return self._manner.reattach and bool(self._session_id) and lost

    def _watch(self) -> EventCall:
        request = processing_pb2.WatchSessionRequest(
            session_id=self._session_id,
            from_sequence=self._sequence + 1,
            delivery=self._manner.delivery,
        )
        call: EventCall = self._client.processing.WatchSession(request)
        return call

    def _explained(self, failure: CallFailure) -> CallFailure:
        if failure.from_server:
            return self._client.advise(failure)
        if failure.status != "UNAVAILABLE":
            return failure
        if not self._session_id:
            return self._client.unreachable(failure.message)
        advice = (
            f"It may have gone on: deviceops sessions watch {self._session_id}"
            if self._manner.reattach or not self._manner.cancel_on_interrupt
            else "The server cancels a session whose stream is lost; with --detach it goes on."
        )
        return CallFailure(
            status="UNAVAILABLE",
            message=f"The connection to {self._client.target.address} was lost"
            f" while session {self._session_id} was running.",
            metadata={"detail": failure.message},
            advice=advice,
        )

    def _interrupted(self, count: int) -> None:
        if count == 1 and self._manner.cancel_on_interrupt:
            self._accepted.wait(ACCEPT_GRACE)  # a session can be cancelled by its id only
        if count > 1 or not self._session_id or not self._manner.cancel_on_interrupt:
            self._leave()
            return
        self._note(f"Cancelling session {self._session_id}; Ctrl-C again to leave at once.")
        request = processing_pb2.CancelSessionRequest(session_id=self._session_id)
        try:
            response = self._client.processing.CancelSession(request, timeout=CONTROL_TIMEOUT)
        except grpc.RpcError as error:
            self._note(f"Cancelling failed: {from_rpc_error(error).message}")
            self._leave()
            return
        state = enum_word(session_pb2.SessionState, response.session.state, "SESSION_STATE_")
        self._note(f"The server noted it: the session is {state}.")
        self._grace = threading.Timer(CANCEL_GRACE, self._leave)
        self._grace.daemon = True
        self._grace.start()


def _cut_short(session_id: str) -> CallFailure:
    return CallFailure(
        status="INTERNAL",
        message="The server ended the stream without saying how the session ended.",
        metadata={"session_id": session_id} if session_id else {},
    )
