"""`python -m server.worker.cluster.carrier ADDRESS NODE`: a worker on another machine.

To the front this process is the worker: it has the same start record and the same link, it
is watched and killed in the same way, and ends as its worker ends. What it is told it passes
on to an actor on the node, which starts the real worker there; what that says it passes
back, and with it the files: models must lie there already, pictures are brought.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domains.codec import encode
from domains.errors import DomainError, Reason, ResourceExhausted, Unavailable
from domains.private_folders import prepare
from domains.session.types import ImageResult
from domains.shortages import shortage_of
from domains.whole_files import whole_file
from server.worker.child.parent_death import die_with_parent
from server.worker.child.run import SIGN_SECONDS
from server.worker.cluster import cargo
from server.worker.cluster.joining import (
    Actor,
    ClusterUnreachable,
    FailedThere,
    NodeGone,
    joined,
)
from server.worker.cluster.node_worker import Heard, NodeWorker
from server.worker.cluster.same_models import SameModels
from server.worker.link import frames
from server.worker.link.connection import Link, LinkClosed, OversizedFrame, connect
from server.worker.link.exits import (
    EXIT_CANNOT_START,
    EXIT_NODE_GONE,
    EXIT_ORPHANED,
    leave,
)
from server.worker.link.pictures import file_name
from server.worker.link.start_record import StartRecord

_NAME_SECONDS = 60.0  # until the actor of a carrier that was killed is gone
_START_SECONDS = 90.0  # Ray starts an interpreter for the actor first
_ANSWER_SECONDS = 20.0  # for anything else that is asked of an actor
_FILE_SECONDS = 120.0

_log = logging.getLogger("deviceops.worker")


class Carrier:
    """Carries between the front and an actor.

    Args:
        link: To the front.
        actor: Has the worker.
        record: The front's own.
        node: Where the actor is.
    """

    def __init__(self, link: Link, actor: Actor, record: StartRecord, node: str) -> None:
        self._link = link
        self._actor = actor
        self._record = record
        self._node = node
        self._paused: dict[str, Path] = {}
        self._files = Path()
        self._models = SameModels(actor, node)
        self._sign_at = 0.0
        self._runs: queue.SimpleQueue[tuple[frames.ToWorker, bytes] | None]
        self._runs = queue.SimpleQueue()
        self.greeted = False
        """Whether the worker's first words were passed on."""

    def carry(self) -> int:
        """Carry until the worker's end; its exit code.

        Raises:
            NodeGone: The node is.
            FailedThere: The worker cannot be started or heard there.
            LinkClosed: The front is.
        """
        start = self._call("start", self._record.to_bytes(), patience=_START_SECONDS)
        self._files = Path(start)
        for passing, name in ((self._pass_orders, "orders"), (self._pass_runs, "runs")):
            threading.Thread(target=passing, name=name, daemon=True).start()
        while True:
            heard: Heard = self._call("hear")
            said, lines, code = heard
            for line in lines:
                print(line, flush=True)
            for frame in said:
                self._pass_on(frame)
            if code is not None:
                self._call("clear")
                return code

    def _call(self, method: str, *arguments: object, patience: float = _ANSWER_SECONDS) -> Any:
        return self._actor.call(method, *arguments, patience=patience)

    # From the worker to the front.

    def _pass_on(self, frame: bytes) -> None:
        """Bring what a frame announces, then the frame; the front judges both."""
        try:
            said = frames.decode_from_worker(frame)
        except frames.ProtocolError:
            said = None
        match said:
            case frames.Progress(event=ImageResult() as image, epoch=epoch):
                if not image.withheld:
                    self._bring_picture(file_name(epoch, image))
            case frames.Done():
                self._bring_paused()
        self._link.send(frame)
        self.greeted = True

    def _bring_picture(self, name: str) -> None:
        data = self._call("take", "spool", name, patience=_FILE_SECONDS)
        if data is None:
            return  # the front finds that there is none
        try:
            prepare(self._record.spool_dir)
            target = self._record.spool_dir / name
            with whole_file(target, synced=False) as file:  # who keeps it syncs it
                file.write(data)
        except OSError as error:
            _log.error("a picture of another machine cannot be written: %s", error)

    def _bring_paused(self) -> None:
        for name, path in self._paused.items():
            try:
                data = self._call("take", "files", name, patience=_FILE_SECONDS)
                if data is not None:
                    with whole_file(path) as file:
                        file.write(data)
            except (OSError, FailedThere) as error:
                _log.warning("an unfinished picture is not kept: %s", error)

    # From the front to the worker.

    def _pass_orders(self) -> None:
        """Pass memory orders on at once; a run, and what is about it, may have to wait."""
        try:
            with _leaving():
                while True:
                    frame = self._link.receive()
                    order = frames.decode_to_worker(frame)
                    if isinstance(order, frames.MemoryOrder | frames.MemoryCancel):
                        self._call("send", frame)
                    else:
                        self._runs.put((order, frame))
        finally:
            self._runs.put(None)

    def _pass_runs(self) -> None:
        with _leaving():
            while (next_one := self._runs.get()) is not None:
                order, frame = next_one
                if isinstance(order, frames.RunOrder):
                    self._pass_run(order)
                else:
                    self._call("send", frame)

    def _pass_run(self, order: frames.RunOrder) -> None:
        """Bring what the run reads, then the order; or say why it cannot be run there."""
        try:
            job = self._with_files(cargo.job_of(order), order)
        except DomainError as error:
            failed = frames.Failed(order.session_id, order.epoch, error.failure())
            self._link.send(encode(failed))
            return
        there = frames.RunOrder(order.session_id, order.epoch, order.remaining, frames.raw(job))
        self._call("send", encode(there))

    def _with_files(self, job: Any, order: frames.RunOrder) -> Any:
        try:
            self._models.check(cargo.model_files(job), lambda: self._go_on(order))
            self._paused = cargo.paused_files(job)
            brought = cargo.pictures(job) | cargo.kept_files(job)
            there = set(self._call("keep_only", list(brought)))
            for name, path in brought.items():
                if name not in there and path.is_file():
                    self._call("put", name, path.read_bytes(), patience=_FILE_SECONDS)
        except FailedThere as error:
            raise failure_there(self._node, error) from error
        except OSError as error:
            shortage = shortage_of(error)
            if shortage is not None:
                raise shortage from error
            _log.error("a file of a run cannot be read: %s", error)
            raise Unavailable(
                "A file of this work cannot be read; the server's log says why.",
                reason=Reason.STORAGE_UNAVAILABLE,
            ) from error
        return cargo.moved(job, lambda name: self._files / name)

    def _go_on(self, order: frames.RunOrder) -> None:
        """Now and then say that the run is at work, or it would be taken for one that hangs."""
        now = time.monotonic()
        if now - self._sign_at >= SIGN_SECONDS:
            self._sign_at = now
            self._link.send(encode(frames.Progress(order.session_id, order.epoch, None)))


def main(address: str, node: str) -> None:
    """Read the start record from standard input and carry until the worker's end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    record = StartRecord.from_bytes(sys.stdin.buffer.readline())
    die_with_parent(record.parent_process_id)
    logging.basicConfig(
        level=record.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        link = connect(record.address, record.key)
    except LinkClosed:
        leave(EXIT_ORPHANED)
    _end_as(_carry(link, record, address, node))


@contextlib.contextmanager
def _leaving() -> Iterator[None]:
    """What ends a thread that passes orders on ends the process."""
    try:
        yield
    except (LinkClosed, OversizedFrame):
        leave(EXIT_ORPHANED)
    except NodeGone as why:
        _log.error("%s", why)
        leave(EXIT_NODE_GONE)
    except Exception:
        _log.exception("passing orders on failed")
        leave(EXIT_ORPHANED)


def failure_there(node: str, error: FailedThere) -> DomainError:
    """What an error that a node raised means for the run, or for the worker that is started."""
    _log.error("on node %s: %r", node, error.__cause__)
    shortage = shortage_of(error)
    if shortage is None:
        return Unavailable(
            f"Something failed on node {node}; the server's log says what.",
            reason=Reason.DEVICE_UNAVAILABLE,
            metadata={"node": node},
        )
    return ResourceExhausted(
        f"On node {node}: {shortage.message}",
        reason=shortage.reason,
        metadata={**shortage.metadata, "node": node},
        retry_after=shortage.retry_after,
    )


def _carry(link: Link, record: StartRecord, address: str, node: str) -> int:
    carrier: Carrier | None = None
    try:
        with joined(address) as cluster:
            actor = cluster.actor(record.device_id, node, NodeWorker, _NAME_SECONDS)
            carrier = Carrier(link, actor, record, node)
            return carrier.carry()
    except LinkClosed:
        return EXIT_ORPHANED
    except (ClusterUnreachable, NodeGone) as why:
        _log.info("%s", why)
        if carrier is None or not carrier.greeted:
            error = Unavailable(str(why), reason=Reason.DEVICE_LOST)
            _refuse(link, error)
        return EXIT_NODE_GONE
    except FailedThere as error:
        failure = failure_there(node, error)
        if carrier is None or not carrier.greeted:
            _refuse(link, failure)
        return EXIT_CANNOT_START


def _refuse(link: Link, why: DomainError) -> None:
    with contextlib.suppress(LinkClosed):
        link.send(encode(frames.CannotStart(why.failure())))


def _end_as(code: int) -> None:
    """End as the worker did: by the same signal, or with the same code."""
    if code < 0 and sys.platform != "win32":
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    leave(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
