"""One run of a step: its session begun or found, followed to its end, tried again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from msgspec.structs import replace

from domains.errors import (
    DomainError,
    Failure,
    FieldViolation,
    Internal,
    InvalidArgument,
    Reason,
    Unimplemented,
)
from domains.processing.workflows.ports import StepRequests
from domains.processing.workflows.types import Ended, Ending, Inputs, Step
from domains.session.core.children import (
    FOLLOWED,
    RELAYED,
    Children,
    is_left_behind,
    why_not_completed,
)
from domains.session.core.plan import SessionRequest
from domains.session.core.session import Session
from domains.session.errors import EventsExpired, ShuttingDown
from domains.session.types import (
    ImageFinished,
    ImageResult,
    ItemFinished,
    Preview,
    SessionKind,
    SessionState,
)

MOST_RESULTS = 256
"""Pictures that a run keeps as its own."""
MOST_DEPTH = 3
"""Workflows that run within each other."""
NEVER_BETTER = (InvalidArgument.code, Unimplemented.code)
"""Codes of what no second try can mend."""
_LONGEST_BACKOFF_SECONDS = 3_600.0


@dataclass(frozen=True)
class SessionServices(Children):
    """Where sessions of steps are begun, found and read."""

    def pictures(self, child: Session) -> tuple[ImageResult, ...]:
        """All of a step's session; those of a batch in the order of its items, which its log
        tells of, and of those that had ended in an earlier server their sessions."""
        if child.kind is not SessionKind.BATCH:
            return child.images
        items = {
            entry.item_id: entry.images
            for entry in child.log.entries()
            if isinstance(entry, ItemFinished)
        }
        for drawn in self.sessions.children(child.session_id):
            if drawn.state is SessionState.COMPLETED:
                items.setdefault(drawn.about.parent.item_id, drawn.images)
        in_order = sorted(items, key=lambda name: (len(name), name))  # they are numbers
        return tuple(image for name in in_order for image in items[name])

    def depth(self, run: Session) -> int:
        """How many sessions a run is in, with itself."""
        depth, above = 1, run.parent_session_id
        while above and depth <= MOST_DEPTH:
            depth, above = depth + 1, self.sessions.get(above).parent_session_id
        return depth


@dataclass
class StepRun:
    """A run of a step, by its name.

    While `may_begin` is not set no session is begun; `in_order` has them wait in the order in
    which steps became ready. `result` is whether the pictures are the run's own. `child` is the
    session of now, `failure` why the step failed.
    """

    services: SessionServices
    requests: StepRequests
    run: Session
    step: Step
    place: int
    name: str
    inputs: Inputs
    result: bool
    may_begin: asyncio.Event
    in_order: asyncio.Lock
    child: Session | None = field(default=None, init=False)
    failure: Failure | None = field(default=None, init=False)

    async def end(self) -> Ended:
        """Have it done; returns how it ended."""
        found = self.services.of(self.run, self.name)
        before = [child for child in found if not is_left_behind(child)]
        attempt = max(len(before), 1)
        self.child = before[-1] if before else None
        if self.child is not None and self.child.state is SessionState.PAUSED:
            self.services.sessions.resume(self.child, "")
        while True:
            failure = await self._try()
            if failure is None:
                assert self.child is not None
                return Ended(
                    Ending.DONE,
                    self.services.pictures(self.child),
                    self.child.model_id,
                    device_id=self.child.device_id,
                )
            if self.child is not None and is_left_behind(self.child):
                self.child = None
                continue
            retries = self.step.retries
            if attempt >= retries.max_attempts or failure.code in NEVER_BETTER:
                self.failure = failure
                return Ended(Ending.FAILED)
            await self.back_off(attempt)
            attempt, self.child = attempt + 1, None

    async def back_off(self, attempt: int) -> None:
        """Wait before the try that follows on that one, the first being 1."""
        seconds = self.step.retries.backoff_seconds * 2.0 ** (attempt - 1)
        await asyncio.sleep(min(seconds, _LONGEST_BACKOFF_SECONDS))

    async def _try(self) -> Failure | None:
        """Follow the session of now, or one that is begun for it; returns why it failed."""
        try:
            if self.child is None:
                self.child = await self._begun()
                await self._follow(self.child, 1)
            else:
                await self._follow(self.child, self.child.log.last_sequence + 1)
        except ShuttingDown:
            await asyncio.Event().wait()  # the run ends or is suspended, and this with it
        except DomainError as error:
            return error.failure()
        child = self.child
        if child is None:
            return None
        return (
            self._lacking(child)
            if child.state is SessionState.COMPLETED
            else why_not_completed(child)
        )

    def _lacking(self, child: Session) -> Failure | None:
        """Why a picture of several is not there, of a session that does each by itself."""
        given = sum(
            len(value.value)
            for value in self.inputs.get("images", ())
            if isinstance(value.value, tuple)
        )
        if self.step.work != "postprocess" or len(child.images) >= given:
            return None
        found = (
            entry.failure
            for entry in child.log.entries()
            if isinstance(entry, ItemFinished) and entry.failure is not None
        )
        return next(found, Internal("Not all pictures could be finished.").failure())

    @property
    def progress(self) -> float:
        """The done share, from 0 to 1."""
        return 0.0 if self.child is None else self.child.progress

    async def _begun(self) -> Session:
        """A session of its own, once there is room for it in its queue."""
        if self.step.work == "run_workflow" and self.services.depth(self.run) >= MOST_DEPTH:
            rule = f"Workflows run within workflows {MOST_DEPTH} deep at most."
            raise InvalidArgument.of(
                FieldViolation("workflow_id", Reason.WORKFLOW_INVALID, rule)
            )
        return await self.services.begun(self._begin)

    async def _begin(self) -> Session:
        await self.may_begin.wait()
        async with self.in_order:
            request: SessionRequest = self.requests.request(
                self.place, self.inputs, self.run, self.name
            )
            return await self.services.runner.begin(request)

    async def _follow(self, child: Session, first: int) -> None:
        """Tell in the run's log what a session reports, until it is over."""
        try:
            async for event in self.services.reader.events(child, first, delivery=FOLLOWED):
                if self.run.state.final:
                    return
                if isinstance(event.event, RELAYED):
                    self.run.log.append(event.event, self.name)
                elif isinstance(event.event, Preview):
                    self.run.log.show(event.event, self.name)
                elif isinstance(event.event, ImageFinished):
                    self._tell_results(child)
        except EventsExpired:
            pass  # it ended, and its progress was given up meanwhile
        await child.over()
        self._tell_results(child)

    def _tell_results(self, child: Session) -> None:
        """Take the pictures over that are the run's, each once, in their order."""
        if not self.result or self.run.state.final:
            return
        batch = child.kind is SessionKind.BATCH
        if batch and not child.state.final:
            return  # its items end in any order
        told = sum(image.item_id == self.name for image in self.run.images)
        for place, image in enumerate(self.services.pictures(child)):
            in_turn = place == told and (batch or image.image_index == place)
            if in_turn and self.take(image):
                told += 1

    def take(self, image: ImageResult) -> bool:
        """Have a picture be the run's own too; False where it has as many as it may."""
        index = len(self.run.images)
        if index >= MOST_RESULTS:
            return False
        self.run.finish_image(replace(image, image_index=index, item_id=self.name))
        return True
