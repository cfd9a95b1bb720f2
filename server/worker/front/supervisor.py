"""One life of one worker, from its start to its end, seen from the front.

A thread reads the link and hands what matters to the event loop; sending happens in a
thread too, so that a worker that stops reading blocks nobody. Everything public belongs
to the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from domains.codec import encode
from domains.device.types import Device, OptimizationProfile
from domains.errors import DeadlineExceeded, DomainError, Reason
from domains.loops import kept
from domains.session.types import Phase
from domains.shortages import shortage_of
from server.worker.front.child_options import ChildOptions
from server.worker.front.conversation import Conversation, StartRefused
from server.worker.front.death import NODE_GONE, Death, FirstReason, death_of, end_before_hello
from server.worker.front.hang import Hang, Suspicion, find_hang, rested
from server.worker.front.memory_orders import Pending
from server.worker.front.process import WorkerProcess, describe_exit
from server.worker.front.runs import Run
from server.worker.front.sender import Sender
from server.worker.front.spool import Spool
from server.worker.front.timing import WorkerTiming
from server.worker.link import frames
from server.worker.link.connection import (
    Link,
    LinkClosed,
    LinkOffer,
    OversizedFrame,
    offer_link,
)
from server.worker.link.exits import EXIT_NODE_GONE
from server.worker.link.frames import ProtocolError
from server.worker.link.start_record import StartRecord

# For what a worker said before it ended, where another process holds its link.
_LAST_WORDS_SECONDS = 1.0

_log = structlog.get_logger("deviceops.worker")


class Supervisor:
    """One worker process. `ended` is set, exactly once, when it is gone.

    Args:
        device: What it is to own.
        command: Starts it.
        environment: Of its process.
        spool: Where its pictures go.
        spool_dir: The worker's own folder in it.
        child: What it is told.
        timing: How long to wait for what.
        profile: What it is to run with from its start.
    """

    def __init__(
        self,
        device: Device,
        command: Sequence[str],
        environment: Mapping[str, str],
        spool: Spool,
        spool_dir: Path,
        *,
        child: ChildOptions,
        timing: WorkerTiming,
        profile: OptimizationProfile = OptimizationProfile.BALANCED,
    ) -> None:
        self._device = device
        self._profile = profile
        self._command = command
        self._environment = environment
        self._spool_dir = spool_dir
        self._child = child
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._log = _log.bind(device_id=device.device_id)
        self._process: WorkerProcess | None = None
        self._sender: Sender | None = None
        self._end = FirstReason()
        self._heard = threading.Event()
        self._conversation = Conversation(
            device.device_id,
            spool,
            spool_dir,
            on_sticky=lambda: self._end.note("lost its device"),
            on_refused=lambda run: self._post(self._ask_to_stop, run),
            log=self._log,
        )
        self._watching: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        # Whether it said hello before it ended.
        self._greeted: asyncio.Future[bool] = self._loop.create_future()
        self.ended: asyncio.Future[Death] = self._loop.create_future()
        self.start_time = datetime.now(UTC)
        self.software_versions: Mapping[str, str] = {}
        self._memory_waits = False

    @property
    def conversation(self) -> Conversation:
        """What it says: signs of life, its device's memory, its answers."""
        return self._conversation

    @property
    def process_id(self) -> int:
        """The process, or 0 before it was spawned and once it has ended."""
        process = self._process
        return 0 if process is None or self.ended.done() else process.process_id

    @property
    def usable(self) -> bool:
        """Whether it can be given work: it lives and is not about to end."""
        return self._end.reason is None and not self.ended.done()

    # Its life.

    async def start(self) -> bool:
        """Spawn it and wait for its hello; False when it ended instead (see `ended`)."""
        try:
            self._spawn()
        except Exception as error:
            self.ended.set_result(death_of(error, "its program cannot be run"))
            return False
        await asyncio.wait([self._greeted], timeout=self._timing.start)
        if not self._greeted.done():
            self.kill(f"did not say hello within {self._timing.start:g} s")
            await asyncio.wait([self._greeted])
        if not self._greeted.result():
            return False
        self._watching = self._loop.create_task(kept("watching a worker", self._watch))
        return not self.ended.done()

    def _spawn(self) -> None:
        """Start the process and a thread that listens to it, or leave nothing behind."""
        with contextlib.ExitStack() as undo:
            offer = offer_link()
            undo.callback(offer.close)
            record = StartRecord(
                address=offer.address,
                key=offer.key,
                device_id=self._device.device_id,
                torch_device=self._device.torch_device,
                spool_dir=self._spool_dir,
                log_level=self._child.log_level,
                parent_process_id=os.getpid(),
                profile=self._profile,
                code_dir=self._child.code_dir,
            )
            process = WorkerProcess(
                self._command,
                self._environment,
                record.to_bytes(),
                on_line=self._relay,
                on_exit=partial(self._abandon, offer),
                descriptors=offer.descriptors,
            )
            undo.callback(process.release)
            undo.callback(process.wait)
            undo.callback(process.kill)
            offer.hand_over()
            threading.Thread(
                target=self._read, args=(offer, process), name="worker-link", daemon=True
            ).start()
            undo.pop_all()
        self._process = process
        self._log.info("worker_spawned", process_id=self.process_id)

    def kill(self, why: str, *, deliberate: bool = False) -> None:
        """End it at once. `why` completes "The worker ...". The first reason counts."""
        self._end.note(why, deliberate=deliberate)
        if self._process is not None:
            self._process.kill()

    async def stop(self, grace: float) -> None:
        """Let it finish what it runs for `grace` seconds, then end it; returns when gone."""
        self._end.note("was told to end", deliberate=True)
        if self._sender is not None:
            self._sender.put(encode(frames.Shutdown()))
            await asyncio.wait([self.ended], timeout=grace)
        self.kill("was told to end", deliberate=True)
        if not self.ended.done():
            await asyncio.wait([self.ended])

    # Its runs.

    def begin(self, run: Run) -> None:
        """Give it a run; it must be idle.

        Raises:
            ResourceExhausted: The order is larger than the link takes.
        """
        assert self._conversation.run is None, "the worker has a run"
        assert self._sender is not None, "the worker said hello"
        order = run.order()
        for timer in self._timers:
            timer.cancel()  # those of earlier runs
        self._timers.clear()
        run.begun = True
        run.touch(time.monotonic())
        self._conversation.begin(run)
        self._sender.put(order)
        self._after(run.deadline - time.monotonic(), run, self._deadline_passed)

    def stop_run(self, run: Run, error: DomainError) -> None:
        """Ask the run to end with `error`, and end the worker if it does not in time."""
        if run.stop_error is None and not run.finished.is_set():
            run.stop_error = error
            self._ask_to_stop(run)

    def pause_run(self, run: Run) -> None:
        """Ask the run to pause; it takes as long as its step."""
        if self._sender is not None and self._conversation.run is run:
            self._sender.put(encode(frames.Pause(run.session_id)))

    def _ask_to_stop(self, run: Run) -> None:
        if self._sender is not None and self._conversation.run is run:
            self._sender.put(encode(frames.Cancel(run.session_id)))
            self._after(self._timing.cancel_grace, run, self._grace_over)

    def _deadline_passed(self, run: Run) -> None:
        self.stop_run(run, DeadlineExceeded("The time given to this work is over."))

    def _grace_over(self, run: Run) -> None:
        # Slow is not broken: a long step on a slow device is not held against it.
        why = f"did not stop its work within {self._timing.cancel_grace:g} s"
        self.kill(why, deliberate=True)

    def _after(self, delay: float, run: Run, act: Callable[[Run], None]) -> None:
        def due() -> None:
            if self._conversation.run is run:
                act(run)

        self._timers.append(self._loop.call_later(max(delay, 0.0), due))

    # Its memory orders.

    def order(self, order: frames.Order) -> Pending:
        """Give it a memory order; it must be usable."""
        assert self._sender is not None, "the worker said hello"
        pending = self._conversation.orders.issue(order)
        self._sender.put(encode(frames.MemoryOrder(pending.ticket, order)))
        return pending

    def stop_order(self, pending: Pending) -> None:
        """Ask it to stop an order; `pending` is over when it has."""
        if self._sender is not None and not pending.over.is_set():
            self._sender.put(encode(frames.MemoryCancel(pending.ticket)))

    # Watching it.

    async def _watch(self) -> None:
        """End it when it hangs."""
        timing = self._timing
        pause = min(1.0, min(timing.hang, timing.beat, timing.send) / 4)
        suspicion = Suspicion()
        while not self.ended.done():
            self._conversation.forgive(await rested(pause))
            blocked = 0.0
            if self._sender is not None:
                blocked = self._sender.blocked(time.monotonic())
            seen = find_hang(self._conversation, timing, blocked, one_lane=self._memory_waits)
            hang = suspicion.confirm(seen)
            if hang is not None:
                self._hung(hang)

    def _hung(self, hang: Hang) -> None:
        def error(phase: Phase | None = None) -> DeadlineExceeded:
            during = "" if phase is None else f" in the phase {phase.value}"
            told = {} if phase is None else {"phase": phase.value}
            return DeadlineExceeded(
                f"The worker of device {self._device.device_id} {hang.words}{during} and was "
                "ended.",
                reason=Reason.WORKER_HUNG,
                metadata={"device_id": self._device.device_id} | told,
            )

        run = self._conversation.run
        if hang.about_run and run is not None and run.stop_error is None:
            run.stop_error = error(run.phase)
        self._conversation.orders.fail_all(error)
        self.kill(hang.words)

    # In the reader's thread.

    def _read(self, offer: LinkOffer, process: WorkerProcess) -> None:
        link: Link | None = None
        try:
            link = offer.accept()
            hello = self._conversation.greet(link)
            self._post(self._on_hello, hello, Sender(link))
            self._conversation.follow(link)
        except LinkClosed:
            pass
        except StartRefused as refusal:
            gone = refusal.lost and bool(self._device.node)
            self._end.note(f"cannot start: {refusal}", starved=refusal.starved, gone=gone)
        except ProtocolError as error:
            self._end.note(f"broke the protocol: {error}")
            process.kill()
        except OversizedFrame:
            self._end.note("broke the protocol: a frame is too large")
            process.kill()
        except Exception as error:
            shortage = shortage_of(error)
            if shortage is None:
                self._log.exception("worker_link_failed")
            why = f"cannot work: {shortage.message}" if shortage else "could not be understood"
            self._end.note(why, starved=shortage is not None)
            process.kill()
        self._heard.set()
        if not process.wait(self._timing.exit):
            self._end.note("closed its link and did not end")
            process.kill()
            process.wait()
        offer.close()
        if link is not None:
            link.close()
        process.release()
        self._post(self._on_end, self._death(process))

    def _abandon(self, offer: LinkOffer) -> None:
        """The process has ended: nothing comes any more, whoever else holds its link."""
        if not self._heard.wait(_LAST_WORDS_SECONDS):
            offer.abandon()

    def _death(self, process: WorkerProcess) -> Death:
        words, facts = describe_exit(process.exit_code)
        reason = self._end.reason
        if reason is None and self._device.node and process.exit_code == EXIT_NODE_GONE:
            reason = NODE_GONE
        elif reason is None:
            unheard = self._conversation.alive_at == 0.0
            lines = process.last_lines if unheard else ()
            reason = end_before_hello(words, lines)
        why = f"The worker {reason.why.rstrip('.')}."
        death = Death(why, facts, reason.deliberate, reason.starved, reason.gone)
        if death.blamed:
            self._log.error(
                "worker_lost",
                why=reason.why,
                exit=words,
                process_id=process.process_id,
                last_output=process.last_lines,
            )
        return death

    def _relay(self, line: str) -> None:
        level = line.partition(" ")[0].lower()
        write = self._log.warning if level in ("warning", "error") else self._log.debug
        write("worker_output", line=line)

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        # The loop may be closed already when the process ends.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    # Back on the loop.

    def _on_hello(self, hello: frames.Hello, sender: Sender) -> None:
        self.software_versions = hello.software_versions
        self._memory_waits = hello.memory_waits_for_runs
        self._sender = sender
        self._greeted.set_result(True)

    def _on_end(self, death: Death) -> None:
        if self._sender is not None:
            self._sender.close()
        for timer in self._timers:
            timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        if not self._greeted.done():
            self._greeted.set_result(False)
        self.ended.set_result(death)
