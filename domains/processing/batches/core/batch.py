"""One batch: its items, the session that works them off, how it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from domains.processing.batches.core.groups import GroupSize
from domains.processing.batches.core.items import Items, work_of
from domains.processing.batches.ports import BatchNames, Template, Templates
from domains.processing.batches.types import (
    BatchRecord,
    BatchStatus,
    ItemRecord,
    ItemStatus,
    Manner,
)
from domains.session.core.session import Session
from domains.session.core.snapshots import snapshot_of
from domains.session.types import SessionState
from domains.session.views import Viewer


class Batch:
    """A batch that is on disk.

    Whoever changes something that matters for what comes next sets `wake`. `changing` is held
    by whoever adds items or has some run again, `awaiting` says that more of them are about to
    come, `closing` that its session is about to be final. `children` are the sessions of the
    items at work, by their positions; while it is paused, `groups` are the positions of those
    that share one, by its id.

    Args:
        record: As it is kept.
        find: Finds the session of an id, or raises.
        templates: Reads its template.
        names: What it and its items name of what the server keeps.
    """

    def __init__(
        self,
        record: BatchRecord,
        find: Callable[[str], Session],
        templates: Templates,
        names: BatchNames,
    ) -> None:
        self.record = record
        self._find = find
        self.items = Items(record.manner.retry, names.of_item)
        self.items.names.add(names.of_request(record.template))
        self.wake = asyncio.Event()
        self.changing = asyncio.Lock()
        self.awaiting = self.closing = False
        self.children: dict[int, Session] = {}
        self.groups: dict[str, list[int]] = {}
        self.group_size = GroupSize()
        self.held_bytes = len(record.template)
        self._templates = templates
        self._template: Template | None = None

    @property
    def batch_id(self) -> str:
        """Its id."""
        return self.record.batch_id

    @property
    def session(self) -> Session:
        """The session that works it off, or did.

        Raises:
            SessionNotFound: It has been forgotten, and the batch is about to be.
        """
        return self._find(self.record.session_id)

    @property
    def session_ids(self) -> tuple[str, ...]:
        """Of the sessions that it is found by: the one that works it off, and the one that made
        it, which its request_id leads to."""
        now, first = self.record.session_id, self.record.first_session_id
        return (now, first) if first not in ("", now) else (now,)

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.record.owner

    @property
    def manner(self) -> Manner:
        """How its items are worked off."""
        return self.record.manner

    @property
    def sealed(self) -> bool:
        """Whether no more items come."""
        return self.record.sealed or self.session.state.final

    @property
    def template(self) -> Template:
        """What its items have in common; held from the first use to `put_away`."""
        if self._template is None:
            self._template = self._templates(self.record.template)
        return self._template

    def put_away(self) -> None:
        """Nothing is about to run: hold no more of it than bytes."""
        self._template = None

    def add(self, record: ItemRecord) -> None:
        """Take in an item that is on disk."""
        self.items.add(record)
        self.held_bytes += work_of(record).held_bytes

    # How it stands.

    @property
    def failures(self) -> int:
        """How many items have failed since some last were to run again."""
        return self.items.count(SessionState.FAILED) - self.record.failures_before

    @property
    def end_time(self) -> datetime | None:
        """When it became final; None before."""
        return self.session.times.end_time

    @property
    def remaining_seconds(self) -> float | None:
        """What is left, at the pace so far; None before an item has ended, and once it is
        final."""
        items = self.items
        if self.session.state.final or not items.ended or not items.worked_seconds:
            return None
        return items.worked_seconds / items.ended * (len(items) - items.ended)

    def status(self, viewer: Viewer) -> BatchStatus:
        """How it stands, as the viewer sees it."""
        session, items = self.session, self.items
        return BatchStatus(
            batch_id=self.batch_id,
            session_id=session.session_id,
            state=session.state,
            sealed=self.sealed,
            items=len(items),
            completed=items.count(SessionState.COMPLETED),
            failed=items.count(SessionState.FAILED),
            cancelled=items.count(SessionState.CANCELLED),
            create_time=self.record.create_time,
            end_time=self.end_time,
            remaining_seconds=self.remaining_seconds,
            options=snapshot_of(session).seen_by(viewer.name).options,
            owner=self.owner,
            end_reason=self.record.end_reason,
        )

    def item_state(self, record: ItemRecord) -> SessionState:
        """How an item stands: while it is at work, as its session does."""
        child = self.children.get(record.position)
        if child is None or record.state is not SessionState.QUEUED:
            return record.state
        # What has ended is told once that is on disk.
        return SessionState.RUNNING if child.state.final else child.state

    def item_status(self, record: ItemRecord) -> ItemStatus:
        """How an item stands, whole."""
        state = self.item_state(record)
        child = self.children.get(record.position)
        return ItemStatus(
            record.item_id,
            state,
            record.session_id if child is None else child.session_id,
            record.images,
            record.failure if state is SessionState.FAILED else None,
            record.attempts + (child is not None and child.times.start_time is not None),
        )
