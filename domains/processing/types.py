"""Answers about sessions of every kind."""

from __future__ import annotations

from dataclasses import dataclass

from domains.paging import Page
from domains.session.views import SessionSnapshot


@dataclass(frozen=True)
class SessionsPage:
    """A page of sessions; `revision` is the newest change that it shows."""

    page: Page[SessionSnapshot]
    revision: int


@dataclass(frozen=True)
class QueuePage:
    """A page of what waits for a device; `waiting` counts those too that are not shown."""

    page: Page[SessionSnapshot]
    waiting: int
