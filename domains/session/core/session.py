"""One session: a small state machine around an event log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from domains.clock import Clock
from domains.errors import Failure, Reason
from domains.session.core.log import EventLog
from domains.session.core.placed import Placed
from domains.session.errors import SessionFailed, cancellation
from domains.session.types import (
    Accepted,
    Cancelled,
    Completed,
    Failed,
    ImageFinished,
    ImageResult,
    Outcome,
    Phase,
    PhaseStarted,
    Preview,
    ProgressEvent,
    SessionKind,
    SessionOptions,
    SessionSnapshot,
    SessionState,
    StepFinished,
    TransferProgress,
)
from domains.values import PlacementDecision


class Session:
    """Accepted work: its state, its events, its result.

    It belongs to the event loop that made it. Every change of state goes through a
    method here, which also writes the log, so that the two cannot disagree; whatever
    comes after the terminal entry is ignored, since a worker may report late. `followers`
    counts the calls that run the session and are still open. `client` is whose work it is,
    `effort` how much there is to do, where that can be compared with other work.
    """

    def __init__(
        self,
        session_id: str,
        kind: SessionKind,
        options: SessionOptions,
        *,
        placed: Placed,
        model_id: str,
        total_steps: int,
        parent_session_id: str,
        client: str,
        retention: timedelta,
        clock: Clock,
    ) -> None:
        self.session_id = session_id
        self.kind = kind
        self.options = options
        self.placement = placed.decision
        self.model_id = model_id
        self.effort = placed.effort
        self._place_again = placed.again
        self.parent_session_id = parent_session_id
        self.client = client
        self.state = SessionState.QUEUED
        self.phase: Phase | None = Phase.QUEUED
        self.queue_position = 0
        self.images: tuple[ImageResult, ...] = ()
        self.failure: Failure | None = None
        self.create_time = clock.wall()
        self.start_time: datetime | None = None
        self.end_time: datetime | None = None
        self._began = clock.monotonic()
        self._deadline = self._began + options.timeout_seconds
        self._started = 0.0
        self._expires: float | None = None
        self.log = EventLog(session_id, clock)
        self.cancel_reason: Reason | None = None
        self.followers = 0
        self._cancel_work: Callable[[], object] | None = None
        self._total_steps = total_steps
        self._done_steps = 0
        self._moved_share = 0.0  # of the bytes of what is moved now
        self._retention = retention
        self._clock = clock

    @property
    def device_id(self) -> str:
        """The device whose queue it is in, or that it runs or ran on."""
        return self.placement.device_id

    @property
    def progress(self) -> float:
        """The done share, from 0 to 1; 1 only when it has worked."""
        if self.state is SessionState.COMPLETED:
            return 1.0
        # Loading is little of a generation; elsewhere moving bytes is all there is.
        share = self._moved_share
        if self._total_steps:
            share = self._done_steps / self._total_steps
        return min(share, 0.99)

    def accept(
        self, expected_phases: tuple[Phase, ...], seeds: tuple[int, ...], steps: int
    ) -> None:
        """Write the first entry."""
        self.log.append(
            Accepted(
                self.kind,
                self.device_id,
                self.queue_position,
                expected_phases,
                seeds,
                steps,
                self._clock.shown(self._deadline),
                self.placement,
            )
        )

    def placed_again(self) -> PlacementDecision | None:
        """Where it would go now; None where it cannot go anywhere else."""
        return None if self._place_again is None else self._place_again()

    def move(self, decision: PlacementDecision) -> None:
        """It waits for another device from here on."""
        self.placement = decision
        self.log.wake()

    def move_in_queue(self, position: int) -> None:
        """Note how many sessions are before this one."""
        if position != self.queue_position:
            self.queue_position = position
            self.log.wake()

    def remaining(self) -> float:
        """Seconds until the session's timeout; 0 when it is over."""
        return max(self._deadline - self._clock.monotonic(), 0.0)

    def start(self, cancel_work: Callable[[], object]) -> None:
        """The session's turn has come. `cancel_work` asks the work to stop."""
        self.state = SessionState.RUNNING
        self.phase = None
        self.queue_position = 0
        self.start_time = self._clock.wall()
        self._started = self._clock.monotonic()
        self._cancel_work = cancel_work
        self.log.wake()

    def record(self, event: ProgressEvent) -> None:
        """Note progress. A preview replaces the one before it."""
        if self.state.final:
            return
        if isinstance(event, Preview):
            self.log.show(event)
            return
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
        elif isinstance(event, StepFinished):
            self._done_steps += 1
        elif isinstance(event, TransferProgress) and event.total_bytes:
            self._moved_share = event.done_bytes / event.total_bytes
        self.log.append(event)

    def finish_image(self, image: ImageResult) -> None:
        """A picture is kept."""
        if self.state.final:
            return
        self.images = (*self.images, image)
        self.log.append(ImageFinished(image))

    def request_cancel(self, reason: Reason) -> bool:
        """Ask for the session to stop; the first reason stands.

        Returns:
            Whether anything was still to be stopped.
        """
        if self.state.final:
            return False
        if self.cancel_reason is None:
            self.cancel_reason = reason
            if self._cancel_work is None:
                self.cancel()
            else:
                self.state = SessionState.CANCELLING
                self.log.wake()
                self._cancel_work()
        return True

    def complete(self, outcome: Outcome | None = None) -> None:
        """End with a result."""
        if self.state.final:
            return
        outcome = outcome or Outcome()
        queued = max(self._started - self._began, 0.0)
        total = self._clock.monotonic() - self._began
        entry = Completed(
            self.images,
            outcome.degradations,
            {Phase.QUEUED: queued, **outcome.timings},
            total,
            self.device_id,
            outcome.generation,
            outcome.report,
            self.placement,
        )
        self._end(SessionState.COMPLETED)
        self.log.append(entry)

    def fail(self, failure: Failure) -> None:
        """End with an error."""
        if self.state.final:
            return
        self.failure = failure
        self._end(SessionState.FAILED)
        self.log.append(Failed(failure, self.images))

    def cancel(self) -> None:
        """End because it was asked for."""
        if self.state.final:
            return
        entry = Cancelled(
            self.cancel_reason or Reason.CANCELLED_BY_CLIENT, self.phase, self.images
        )
        self._end(SessionState.CANCELLED)
        self.log.append(entry)

    def raise_for_end(self) -> None:
        """Raise what a failed or cancelled session ended with; nothing otherwise."""
        end = self.log.terminal
        if isinstance(end, Failed):
            raise SessionFailed(end.failure)
        if isinstance(end, Cancelled):
            raise cancellation(self.session_id, end.reason)

    def _end(self, state: SessionState) -> None:
        self.state = state
        self.phase = None
        self.queue_position = 0
        self.end_time = self._clock.wall()
        self._expires = self._clock.monotonic() + self._retention.total_seconds()
        self._cancel_work = None

    @property
    def expire_time(self) -> datetime | None:
        """When a final session may be forgotten, as people read it now."""
        return None if self._expires is None else self._clock.shown(self._expires)

    @property
    def expired(self) -> bool:
        """Whether it ended so long ago that it may be forgotten."""
        return self._expires is not None and self._expires <= self._clock.monotonic()

    def snapshot(self) -> SessionSnapshot:
        """The session as it stands."""
        return SessionSnapshot(
            session_id=self.session_id,
            kind=self.kind,
            state=self.state,
            phase=self.phase,
            device_id=self.device_id,
            model_id=self.model_id,
            queue_position=self.queue_position,
            progress=self.progress,
            first_sequence=self.log.first_sequence,
            last_sequence=self.log.last_sequence,
            create_time=self.create_time,
            start_time=self.start_time,
            end_time=self.end_time,
            expire_time=self.expire_time,
            options=self.options,
            failure=self.failure,
            images=self.images,
            parent_session_id=self.parent_session_id,
            placement=self.placement,
        )
