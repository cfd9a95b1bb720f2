"""Sessions for work that is one coroutine: opened, followed, stopped, timed out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from domains.errors import Cancelled
from domains.session.core.session import Session
from domains.session.core.sessions import SessionPlan, Sessions
from domains.session.errors import SessionTimedOut
from domains.session.ports import FaultReporter
from domains.session.types import Completed, SessionEvent, SessionOptions

Task = Callable[[Session], Awaitable[object]]
Report = TypeVar("Report")


class Tasks:
    """Runs coroutines as sessions.

    Args:
        sessions: Where they are opened and wait.
        describe: What a client sees of an error.
    """

    def __init__(self, sessions: Sessions, *, describe: FaultReporter) -> None:
        self._sessions = sessions
        self._describe = describe

    async def run(self, plan: SessionPlan, task: Task) -> AsyncGenerator[SessionEvent]:
        """Start `task` as a session, or find the one its request_id started; follow it.

        `task` is cancelled when the session is, and when its time is over; it must clean
        up and end. What it returns becomes the session's report; None is no report.

        Yields the session's events from the first to the last; then raises what a failed
        or cancelled session ended with.

        Raises:
            RequestIdReused: The request_id belongs to another request.
            DomainError: The queue is full, the server is draining, the session failed or
                was cancelled.
        """
        known = self._sessions.known(plan.options.request_id, plan.digest)
        session = known or self._sessions.open(plan, lambda opened: self._work(opened, task))
        async with aclosing(self._follow(session, existing=known is not None)) as events:
            async for event in events:
                yield event

    async def once(
        self,
        options: SessionOptions,
        digest: bytes,
        begin: Callable[[], Awaitable[AsyncGenerator[SessionEvent]]],
    ) -> AsyncGenerator[SessionEvent]:
        """Follow the session that this request started before, else what `begin` runs.

        Looked up before a plan is made, since what the request named may be gone by now.
        Yields and raises what `run` does, and raises what `begin` does.
        """
        known = self._sessions.known(options.request_id, digest)
        following = self._follow(known, existing=True) if known else await begin()
        async with aclosing(following) as events:
            async for event in events:
                yield event

    async def _follow(
        self, session: Session, *, existing: bool
    ) -> AsyncGenerator[SessionEvent]:
        events = self._sessions.follow(
            session, existing=existing, image_data=False, previews=False
        )
        async with aclosing(events):
            async for event in events:
                yield event
        session.raise_for_end()

    async def _work(self, session: Session, task: Task) -> None:
        """The session's turn. Ends the session, whatever happens."""
        work = asyncio.ensure_future(task(session))
        session.start(lambda: _cancel(work))
        try:
            async with asyncio.timeout(max(session.remaining(), 0.0)):
                report = await work
        except asyncio.CancelledError:
            session.cancel()
            running = asyncio.current_task()
            if running is not None and running.cancelling():
                raise  # The queue itself is being ended.
        except TimeoutError:
            late = SessionTimedOut(
                session.session_id, session.options.timeout_seconds, began=True
            )
            session.fail(self._describe(late))
        except Cancelled:
            session.cancel()
        except Exception as error:
            session.fail(self._describe(error))
        else:
            session.complete(report=report)


async def with_report(
    events: AsyncGenerator[SessionEvent], kind: type[Report]
) -> AsyncGenerator[SessionEvent | Report]:
    """The events of a session that ends with a report, and the report before the last."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event.event, Completed):
                assert isinstance(event.event.report, kind)
                yield event.event.report
            yield event


def _cancel(work: asyncio.Future[object]) -> None:
    work.cancel()
