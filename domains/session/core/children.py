"""Sessions that do the steps or items of another one: found, followed, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from domains.errors import Failure, Reason, ResourceExhausted
from domains.session.core.reading import SessionReader
from domains.session.core.retrying import MOST_LOST_TURNS
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.errors import cancellation
from domains.session.types import (
    Cancelled,
    Delivery,
    ImageDecoded,
    PhaseStarted,
    PieceFinished,
    PreviewSettings,
    SessionState,
    StepFinished,
    TextEncoded,
    TransferProgress,
)

_ROOM_SECONDS = 1.0  # a queue gets room without telling
FOLLOWED = Delivery(image_data=False, previews=PreviewSettings(every_steps=1))
"""How whoever has begun a session follows it."""
RELAYED = (
    PhaseStarted | TransferProgress | TextEncoded | StepFinished | PieceFinished | ImageDecoded
)
"""What of it is told in the other session's log as well."""


@dataclass(frozen=True)
class Children:
    """Where sessions of steps and items are begun, found and read."""

    sessions: Sessions
    runner: SessionRunner
    reader: SessionReader

    def of(self, parent: Session, name: str) -> list[Session]:
        """Those that were begun for the step or item of that name, oldest first."""
        return [
            child
            for child in self.sessions.children(parent.session_id)
            if child.about.parent.item_id == name
        ]

    def live(self, parent: Session) -> list[Session]:
        """Those that have not ended."""
        children = self.sessions.children(parent.session_id)
        return [child for child in children if not child.state.final]

    async def begun(self, begin: Callable[[], Awaitable[Session]]) -> Session:
        """The session that `begin` begins, once there is room for it in its queue.

        Raises:
            DomainError: As `begin`, but for QUEUE_FULL.
        """
        while True:
            try:
                return await begin()
            except ResourceExhausted as error:
                if error.reason is not Reason.QUEUE_FULL:
                    raise
            await asyncio.sleep(_ROOM_SECONDS)

    def cancel(self, parent: Session, why: str = "") -> list[Session]:
        """Have those stopped that have not ended; returns them."""
        live, reason = self.live(parent), parent.cancel_reason or Reason.CANCELLED_BY_CLIENT
        for child in live:
            child.request_cancel(reason, why, parent.owner)
        return live


def paused(
    sessions: Sessions, children: Iterable[Session | None], why: str, paused_by: str = ""
) -> bool:
    """Have those pause that can: what waits at once, what runs between two steps, and else once
    it has ended.

    Args:
        sessions: Where they are.
        children: Not ended when they were looked for; None for one that is being begun.
        why: Said in their logs.
        paused_by: Likewise: the client that asked.

    Returns:
        Whether all of them have.
    """
    all_paused = True
    for child in children:
        if child is None:
            all_paused = False
            continue
        runs = child.state is SessionState.RUNNING and child.can_pause_work
        if runs or child.state is SessionState.QUEUED:
            sessions.pause(child, why, paused_by)
        all_paused &= child.state is SessionState.PAUSED
    return all_paused


def is_left_behind(child: Session) -> bool:
    """Whether it only ended because its server did, or does, and cannot be taken up: work of
    its kind does no harm when it is done again."""
    end = child.log.terminal
    if isinstance(end, Cancelled) and end.reason is Reason.SHUTTING_DOWN:
        return True
    restarted = child.failure is not None and child.failure.reason is Reason.SERVER_RESTARTED
    return restarted and child.lost < MOST_LOST_TURNS


def why_not_completed(child: Session) -> Failure:
    """Why a session that has ended did not complete."""
    end = child.log.terminal
    if isinstance(end, Cancelled):
        return cancellation(child.session_id, end).failure()
    assert child.failure is not None
    return child.failure
