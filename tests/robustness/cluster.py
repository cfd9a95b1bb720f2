"""A server that is killed and started again, and what clients of it write down."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from pathlib import Path

import psutil

from deviceops.v1 import event_pb2
from domains.clients import Role
from server.token_list import TokenFiles
from tests.robustness.history import Entry, Killed, Opened, Record
from tests.running import Client, RunningServer, launch, wait_for_address

PASSING = ("queue_moved", "preview", "image_chunk", "heartbeat")


class Notes:
    """The history as it comes."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.seen: Counter[str] = Counter()
        """Entries so far, by kind."""
        self._streams = itertools.count(1)
        self._changed = asyncio.Event()

    def add(self, record: Record) -> None:
        """One more."""
        self.records.append(record)

    def open(self, session_id: str, start: int) -> int:
        """A stream begins; its number."""
        stream = next(self._streams)
        self.add(Opened(time.time(), stream, session_id, start))
        return stream

    def event(self, stream: int, event: event_pb2.SessionEvent) -> None:
        """Something came on a stream; passing events have no number of their own."""
        kind = str(event.WhichOneof("event"))
        if kind in PASSING:
            return
        said = event_pb2.SessionEvent()
        said.CopyFrom(event)
        if kind == "accepted":
            said.accepted.existing = False
        elif kind == "image_finished":
            said.image_finished.data_missing = 0
        about = getattr(event, kind)
        finished = about.image if kind == "image_finished" else about
        index = getattr(finished, "image_index", None)
        name = "" if index is None else f"{event.item_id}/{index}"
        self.add(
            Entry(
                time.time(),
                stream,
                event.session_id,
                event.sequence,
                kind,
                said.SerializeToString(deterministic=True).hex(),
                name,
                getattr(finished, "artifact_id", ""),
            )
        )
        self.seen[kind] += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, kind: str, count: int) -> None:
        """Return once so many more entries of a kind have come."""
        due = self.seen[kind] + count
        while self.seen[kind] < due:
            await self._changed.wait()


class Cluster:
    """One server after another on the same data folder.

    Args:
        data_dir: Of all of them.
        flags: More options of each.
        notes: Hears of kills.
    """

    def __init__(self, data_dir: Path, *flags: str, notes: Notes) -> None:
        self._data_dir, self._flags, self._notes = data_dir, flags, notes
        (data_dir / "runtime").mkdir(mode=0o700, parents=True)
        self._running: RunningServer | None = None
        self._up = asyncio.Event()

    @property
    def server(self) -> RunningServer:
        """The one that runs."""
        assert self._running is not None
        return self._running

    async def start(self, **environment: str) -> None:
        """Have one running, with that beside its environment."""
        process = launch(self._data_dir, *self._flags, environment=environment)
        address = await asyncio.to_thread(wait_for_address, process, self._data_dir)
        token = (self._data_dir / "runtime" / "token").read_text().strip()
        log = self._data_dir / "server.log"
        self._running = RunningServer(address, token, self._data_dir, process, log)
        self._up.set()

    def named(self, name: str) -> str:
        """The token of a client of that name; before the first server, which reads it then."""
        return TokenFiles(self._data_dir / "runtime" / "token").add(name, Role.RUN)

    async def connect(self, token: str) -> Client:
        """A client of the server that runs, or of the next one."""
        await self._up.wait()
        return self.server.client(token)

    async def kill_front(self) -> None:
        """End the server as if the machine had stopped, and start the next."""
        self._up.clear()
        self._notes.add(Killed(time.time(), "front"))
        self.server.process.kill()
        await asyncio.to_thread(self.server.process.wait)
        await self.start()

    async def died(self) -> None:
        """Return once the server is gone; clients wait for the next one then."""
        await asyncio.to_thread(self.server.process.wait)
        self._up.clear()
        self._notes.add(Killed(time.time(), "front"))

    async def kill_worker(self) -> None:
        """Kill the worker, if there is one."""
        for child in psutil.Process(self.server.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "server.worker" in " ".join(child.cmdline()):
                    self._notes.add(Killed(time.time(), "worker"))
                    os.kill(child.pid, signal.SIGKILL)
                    return

    def stop(self) -> None:
        """End what runs."""
        if self._running is not None and self._running.process.poll() is None:
            self._running.process.kill()
            self._running.process.wait()
