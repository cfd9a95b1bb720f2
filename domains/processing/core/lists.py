"""Sessions in lists, and watched all together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from domains.errors import InvalidArgument
from domains.paging import paginate_newest_first, paginate_reordered
from domains.processing.core.filters import broken_filter
from domains.processing.ports import Devices
from domains.processing.types import QueuePage, SessionsPage
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.snapshots import snapshot_of
from domains.session.views import SessionChange, SessionFilter, SessionSnapshot, Viewer


class SessionLists:
    """Shows each caller the sessions that they may see.

    Args:
        sessions: The registry.
        devices: Finds the device that a request names.
    """

    def __init__(self, sessions: Sessions, devices: Devices) -> None:
        self._sessions = sessions
        self._devices = devices

    def sessions(
        self, wanted: SessionFilter, viewer: Viewer, *, page_size: int, page_token: str
    ) -> SessionsPage:
        """Sessions, newest first.

        Raises:
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE, TOO_MANY_ELEMENTS,
                TEXT_TOO_LONG, TEXT_INVALID or NAME_INVALID.
        """
        InvalidArgument.check(*broken_filter(wanted))
        changes = self._sessions.changes
        matching = [
            session
            for session in reversed(self._sessions.all())
            if viewer.sees(session.owner) and wanted.accepts(session)
        ]
        page = paginate_newest_first(
            matching,
            changes.number,
            page_size=page_size,
            page_token=page_token,
            scope=f"{changes.run} {viewer.name} {wanted.scope}",
        )
        return SessionsPage(page.mapped(partial(shown, viewer)), changes.revision)

    async def queue(
        self, device: str, viewer: Viewer, *, page_size: int, page_token: str
    ) -> QueuePage:
        """What waits for a device, next first; of others' only what the caller may see.

        Each page is of the queue as it is then. A page goes on after the last session of
        the one before; when that one waits no more, at the beginning.

        Args:
            device: Its id or alias; empty means the default device.
            viewer: Who asks.
            page_size: Entries wanted, 0 to 1000; 0 means 100.
            page_token: Empty, or the `next_page_token` of the page before.

        Raises:
            DomainError: DEVICE_NOT_FOUND, or the device may still be found.
            InvalidArgument: PAGE_TOKEN_INVALID, FIELD_OUT_OF_RANGE.
        """
        device_id = (await self._devices.get(device)).device.device_id
        waiting = self._sessions.queue(device_id).waiting()
        page = paginate_reordered(
            [session for session in waiting if viewer.sees(session.owner)],
            self._sessions.changes.number,
            page_size=page_size,
            page_token=page_token,
            scope=f"{self._sessions.changes.run} {viewer.name} queue {device_id}",
        )
        return QueuePage(page.mapped(partial(shown, viewer)), len(waiting))

    def watch(
        self, wanted: SessionFilter, viewer: Viewer, *, from_revision: int
    ) -> AsyncGenerator[SessionChange]:
        """What happens to sessions; see `SessionChanges.watch`.

        Raises:
            InvalidArgument: The filter breaks a rule.
            ChangesExpired: What happened after `from_revision` is not all kept.
        """
        InvalidArgument.check(*broken_filter(wanted))
        return self._sessions.changes.watch(wanted, viewer, from_revision=from_revision)


def shown(viewer: Viewer, session: Session) -> SessionSnapshot:
    """The session as it stands, as the viewer sees it."""
    return snapshot_of(session).seen_by(viewer.name)
