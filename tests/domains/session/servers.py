"""Servers, as far as sessions know them, one after another over one disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import timedelta

from google.protobuf.message import Message

from deviceops.v1 import common_pb2, memory_info_pb2, processing_pb2
from domains.errors import DomainError, Reason, ResourceExhausted
from domains.session.convert import SessionConverter, snapshot_to_proto
from domains.session.convert.named import named_in_kept
from domains.session.core.keeping import Keeping
from domains.session.core.plan import SessionRequest
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.core.taking_up import TakingUp
from domains.session.ports import ModelContents
from domains.session.records import KeptMessage, KeptSession, record_in
from tests.clocks import SteeredTime
from tests.domains.sessions import Artifacts, changes_of


class Disk:
    """Records in memory, which outlive the servers of a test."""

    def __init__(self, *, beside: bool = True) -> None:
        self.records: dict[str, bytes] = {}
        self.requests = Disk(beside=False) if beside else self
        self.full = self.slow = False
        self.tried: asyncio.Queue[Future[None]] = asyncio.Queue()
        self.may_write = asyncio.Event()
        self.may_write.set()

    def found(self) -> Mapping[str, bytes]:
        return dict(self.records)

    def sessions(self) -> list[KeptSession]:
        return [record_in(body) for body in self.records.values()]

    async def accept(self, session_id: str, body: bytes) -> None:
        await self.may_write.wait()
        if self.full:
            raise ResourceExhausted("The disk is full.", reason=Reason.DISK_FULL)
        self.records[session_id] = body

    def put(self, session_id: str, body: bytes) -> Future[None]:
        self.records[session_id] = body
        return self._tried()

    def remove(self, session_id: str) -> Future[None]:
        self.records.pop(session_id, None)
        return self._tried()

    def _tried(self) -> Future[None]:
        tried: Future[None] = Future()
        self.tried.put_nowait(tried)
        if not self.slow:
            tried.set_result(None)
        return tried


def _report(report: str) -> Message:
    figure = common_pb2.ByteFigure(source=report)
    return memory_info_pb2.DefragmentReport(free_before=figure)


class Server:
    """What of a server is about sessions, over a disk."""

    def __init__(
        self,
        disk: Disk,
        clock: SteeredTime,
        queue_length: int = 10,
        *,
        models: Callable[[], ModelContents] | None = None,
    ) -> None:
        self.converter = SessionConverter({str: _report})
        self.sessions = Sessions(
            describe=lambda error: DomainError(str(error)).failure(),
            queue_length=queue_length,
            slice_seconds=30,
            retention=timedelta(hours=1),
            kept=5,
            changes=changes_of(clock.clock),
            clock=clock.clock,
            models=models,
            keeping=Keeping(
                disk,
                disk.requests,
                disk.sessions,
                self.converter.kept,
                named_in_kept,
                clock.clock,
            ),
        )
        self.sessions.recall()
        self.taking_up = TakingUp(
            self.sessions,
            self.again,
            lambda error: DomainError(str(error)).failure(),
            clock.clock,
        )
        self.anew: dict[bytes, SessionRequest | DomainError] = {}
        self.reader = SessionReader(
            Artifacts(),
            heartbeat_seconds=5,
            clock=clock.clock,
            settled=self.sessions.settled,
        )
        self.runner = SessionRunner(self.sessions, self.reader)

    def again(self, kept: KeptMessage) -> SessionRequest:
        """The request that was kept."""
        found = self.anew[kept.body]
        if isinstance(found, DomainError):
            raise found
        return found

    async def answers(self, session_id: str) -> processing_pb2.GetSessionResponse:
        """What GetSession says of it."""
        session = self.sessions.get(session_id)
        return processing_pb2.GetSessionResponse(
            session=snapshot_to_proto(snapshot_of(session), full=True),
            terminal_event=self.converter.terminal(session.log),
        )
