"""One session: a small state machine around an event log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from domains.clock import Clock
from domains.errors import Failure, Reason
from domains.session.core import entries
from domains.session.core.about import About
from domains.session.core.log import EventLog
from domains.session.core.placed import Placed
from domains.session.core.progress import Progress
from domains.session.core.times import Expectation, SessionTimes, Spell
from domains.session.turns import Paused, Resumed, Retried, Yielded, YieldReason
from domains.session.types import (
    Failed,
    ImageFinished,
    ImageResult,
    ItemFinished,
    Outcome,
    Phase,
    PhaseStarted,
    Preview,
    ProgressEvent,
    SessionState,
    StepFinished,
    Terminal,
    WorkOptions,
)
from domains.values import ByteFigure, PlacementDecision

_AT_WORK = (SessionState.RUNNING, SessionState.PAUSING, SessionState.CANCELLING)


class Session:
    """Accepted work: its state, its events, its result.

    It belongs to the event loop that made it. Every change of state goes through a
    method here, which also writes the log, so that the two cannot disagree; whatever
    comes after the terminal entry is ignored, since a worker may report late. `followers`
    counts the calls that run the session and are still open. `effort` is how much there is to
    do, where that can be compared with other work. `yielding` is why it was asked to let
    another one run, until it does or ends; `done` is how much of it is done. While it is `held`
    its turn does not come. `lost` is how many of its turns ended with a worker or a server,
    `retry_count` how often its work was started over. Once `suspended` it goes on in the next
    server only. `changed` is called after each change that those who look from outside are to
    see.
    """

    def __init__(
        self,
        about: About,
        options: WorkOptions,
        *,
        placed: Placed,
        done: Progress,
        retention: timedelta,
        clock: Clock,
        changed: Callable[[Session], None],
    ) -> None:
        self.about, self.options = about, options
        self.session_id, self.kind, self.owner = about.session_id, about.kind, about.owner
        self.model_id, self.parent_session_id = about.model_id, about.parent.session_id
        self.placement, self.effort = placed.decision, placed.effort
        self._place_again = placed.again
        self.state = SessionState.QUEUED
        self.phase: Phase | None = Phase.QUEUED
        self.queue_position = 0
        self.images: tuple[ImageResult, ...] = ()
        self.failure: Failure | None = None
        self.peak_memory: ByteFigure | None = None
        self.log = EventLog(about.session_id, clock)
        self.cancel_reason: Reason | None = None
        self.yielding: YieldReason | None = None
        self.followers, self.held = 0, False
        self.lost = self.retry_count = 0
        self.suspended = self._begun = False
        self.times, self._expected = SessionTimes(clock), Expectation(clock)
        self._cancel_work: Callable[[], object] | None = None
        self._pause_work: Callable[[], object] | None = None
        self._asked_by, self._reason_text = "", ""
        self.done = done
        self._retention, self._clock, self._changed = retention, clock, changed

    @property
    def device_id(self) -> str:
        """The device whose queue it is in, or that it runs or ran on."""
        return self.placement.device_id

    @property
    def progress(self) -> float:
        """The done share, from 0 to 1; 1 only when it has worked."""
        return 1.0 if self.state is SessionState.COMPLETED else self.done.share

    # Its place in the queue and its time.

    def placed_again(self) -> PlacementDecision | None:
        """Where it would go now; None where it cannot go anywhere else."""
        return None if self._place_again is None else self._place_again()

    def move(self, decision: PlacementDecision) -> None:
        """It waits for another device from here on."""
        self.placement = decision
        self._note_change()

    def move_in_queue(
        self, position: int, *, wait: float | None = None, work: float | None = None
    ) -> None:
        """Note how many sessions are before this one.

        Args:
            position: That many.
            wait: Seconds until its turn, as far as anybody knows.
            work: Seconds that its work will take from then on, likewise.
        """
        self._expected.note(wait, work)
        if position != self.queue_position:
            self.queue_position = position
            self._note_change()

    def expect_end(self, seconds: float | None) -> None:
        """Note in how many seconds the end of what runs is expected; None: nobody knows."""
        self._expected.note(0.0, seconds)

    def wait_left(self) -> float:
        """Seconds that it may still wait for its first turn; infinite without a limit."""
        return self.times.wait_left(self.options)

    def run_left(self) -> float:
        """Seconds that it may still be worked on; 0 when they are over."""
        return self.times.run_left(self.options)

    @property
    def waited_seconds(self) -> float:
        """Seconds for which it has waited for its turns."""
        return self.times.spent(Spell.WAITING)

    @property
    def slice_seconds(self) -> float | None:
        """Seconds of this turn since its first step ended; None before that."""
        return self.times.since_step

    @property
    def create_time(self) -> datetime:
        """When it was accepted."""
        return self.times.create_time

    @property
    def estimated_start_time(self) -> datetime | None:
        """When its turn is expected; None unless it waits and somebody knows."""
        return self._expected.start if self.state is SessionState.QUEUED else None

    @property
    def estimated_end_time(self) -> datetime | None:
        """When it is expected to be final; None once it is, and while nobody knows."""
        if self.state.final or self.state is SessionState.PAUSED:
            return None
        return self._expected.end

    # What happens to it.

    def start(
        self,
        cancel_work: Callable[[], object],
        pause_work: Callable[[], object] | None = None,
    ) -> None:
        """The session's turn has come.

        Args:
            cancel_work: Asks the work to stop.
            pause_work: Asks it to stop so that it can go on later; None where it cannot.
        """
        self.state = SessionState.RUNNING
        self.phase = None
        self.queue_position = 0
        self._begun = False
        self.times.enter(Spell.RUNNING)
        self._expected.begin()
        self._cancel_work, self._pause_work = cancel_work, pause_work
        self._note_change()

    def record(self, event: ProgressEvent, item_id: str = "") -> None:
        """Note progress, of an item by its name. A preview replaces the one before it."""
        if self.state.final:
            return
        if isinstance(event, Preview):
            self.log.show(event, item_id)
            return
        self._note_work()
        self.log.append(event, item_id)
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
            self.times.note_sign()
            self._note_change()
        else:
            self.done.note(event)
            if isinstance(event, StepFinished):
                self.times.note_step()

    def finish_image(self, image: ImageResult) -> None:
        """A picture is kept; they may come in any order."""
        if self.state.final:
            return
        self._note_work()
        self.images = tuple(sorted((*self.images, image), key=lambda one: one.image_index))
        self.done.finish(image.image_index)
        self.times.note_sign()
        self.log.append(ImageFinished(image), image.item_id)

    def finish_item(self, item: ItemFinished) -> None:
        """One of its items has ended."""
        if not self.state.final:
            self._note_work()
            self.log.append(item, item.item_id)

    def _note_work(self) -> None:
        """Something has come of this turn: from here on it is lost when the server ends."""
        if not self._begun:
            self._begun = True
            self._note_change()

    def note_peak(self, figure: ByteFigure) -> None:
        """The most of its device's memory that a turn of it took."""
        if not self.peak_memory or (figure.value or 0) >= (self.peak_memory.value or 0):
            self.peak_memory = figure

    def update(self, options: WorkOptions) -> None:
        """Take other options from now on."""
        self.options = options
        self._note_change()

    async def over(self) -> None:
        """Return once it is final."""
        while not self.state.final:
            await self.log.change().wait()

    @property
    def lost_turns(self) -> int:
        """Turns that began and came to no end, the one of now among them once its work has
        told something: before that it waits for a worker, which is not its fault. Work that is
        on no device has none: it only starts other work, and nothing is lost through it."""
        at_work = self.state in _AT_WORK and bool(self.device_id) and self._begun
        return self.lost + (at_work and not self.suspended)

    @property
    def can_pause_work(self) -> bool:
        """Whether its work, which runs, can stop and go on later."""
        return self._pause_work is not None

    def request_yield(self, reason: YieldReason) -> None:
        """Have running work that can pause stop between two steps, with `give_way` when it has
        come to that; until then the session runs as before."""
        self.yielding = reason
        if self._pause_work is not None:
            self._pause_work()

    def give_way(self) -> None:
        """It has stopped for another one and waits again; `note_yield` follows, once its
        place is known."""
        self._leave_device(SessionState.QUEUED, Spell.WAITING)
        self.phase = Phase.QUEUED

    def note_yield(self, reason: YieldReason) -> None:
        """Write down for what it stopped, and what is kept of the picture at work."""
        self.log.append(Yielded(reason, self.done.kept_steps, self.queue_position))
        self._note_change()

    def start_over(self, cause: Failure) -> None:
        """What did its work was lost: it waits again, and the work begins anew."""
        self.lost += 1
        self.give_way()
        self.note_retry(cause)

    def note_retry(self, cause: Failure) -> None:
        """Write down that its work starts over, and why."""
        self.retry_count += 1
        self.log.append(Retried(cause, self.retry_count))
        self._note_change()

    def take_up(self, about: About, placed: Placed, done: Progress) -> None:
        """Another server accepted it: it goes on as this one has resolved it anew."""
        self.about, self.placement, self.effort = about, placed.decision, placed.effort
        self._place_again, self.done = placed.again, done
        for image in self.images:
            done.finish(image.image_index)

    def suspend(self) -> None:
        """The server ends, and the next one takes it up: nothing more happens to it here."""
        self.suspended = True
        self._note_change()

    def request_pause(self, reason_text: str = "", paused_by: str = "") -> None:
        """Stop it so that it can be resumed: at once while it waits, between two steps
        while it runs, with `pause` when it has come to that."""
        self._reason_text, self._asked_by = reason_text, paused_by
        if self.state is SessionState.QUEUED:
            self.pause()
            return
        self.state, self.yielding = SessionState.PAUSING, None
        self._note_change()
        if self._pause_work is not None:
            self._pause_work()

    def pause(self) -> None:
        """It has stopped and can go on."""
        self._leave_device(SessionState.PAUSED, Spell.PAUSED)
        self.log.append(Paused(self._reason_text, self._asked_by))
        self._note_change()

    def resume(self, resumed_by: str = "") -> None:
        """It goes on: it waits for its turn again."""
        self.state, self.phase = SessionState.QUEUED, Phase.QUEUED
        self.times.enter(Spell.WAITING)
        self.log.append(Resumed(resumed_by))
        self._note_change()

    def request_cancel(
        self, reason: Reason, reason_text: str = "", cancelled_by: str = ""
    ) -> bool:
        """Ask for the session to stop; the first reason stands.

        Returns:
            Whether anything was still to be stopped.
        """
        if self.state.final:
            return False
        if self.cancel_reason is None:
            self.cancel_reason = reason
            self._reason_text, self._asked_by = reason_text, cancelled_by
            if self._cancel_work is None:
                self.cancel()
            else:
                self.state = SessionState.CANCELLING
                self.times.ask_to_stop()
                self._note_change()
                self._cancel_work()
        return True

    def complete(self, outcome: Outcome | None = None) -> None:
        """End with a result."""
        if self.state.final:
            return
        self._end(SessionState.COMPLETED, entries.completed(self, outcome or Outcome()))

    def fail(self, failure: Failure) -> None:
        """End with an error."""
        if self.state.final or self.suspended:
            return
        self.failure = failure
        self._end(SessionState.FAILED, Failed(failure, self.images))

    def cancel(self) -> None:
        """End because it was asked for."""
        if self.state.final or self.suspended:
            return
        entry = entries.cancelled(self, self._reason_text, self._asked_by)
        self._end(SessionState.CANCELLED, entry)

    def _end(self, state: SessionState, entry: Terminal) -> None:
        self._leave_device(state, Spell.OVER)
        self.phase = None
        self.log.append(entry)
        self._note_change()

    def _leave_device(self, state: SessionState, spell: Spell) -> None:
        self.state, self.yielding = state, None
        self.queue_position = 0
        self.times.enter(spell)
        self._cancel_work = self._pause_work = None

    def _note_change(self) -> None:
        self.log.wake()
        self._changed(self)

    # How it stands.

    @property
    def _kept_left(self) -> float | None:
        return self.times.kept_left(self.options, self._retention)

    @property
    def expire_time(self) -> datetime | None:
        """When a final session may be forgotten, as people read it now."""
        return self.times.shown_in(self._kept_left)

    @property
    def expired(self) -> bool:
        """Whether it ended so long ago that it may be forgotten."""
        left = self._kept_left
        return left is not None and left <= 0
