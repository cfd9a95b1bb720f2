"""Sessions, put together; they have no service of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from domains.clock import Clock
from domains.loops import Loop
from domains.paused_work import PausedFolder
from domains.session.convert import Reports, SessionConverter, SessionStreams, Starters
from domains.session.convert.named import named_in_kept
from domains.session.core.changes import SessionChanges
from domains.session.core.draining import Draining
from domains.session.core.keeping import Keeping
from domains.session.core.plan import SessionPlan
from domains.session.core.reading import SessionReader
from domains.session.core.runner import SessionRunner
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.core.taking_up import TakingUp
from domains.session.ports import (
    ArtifactReader,
    FaultReporter,
    ModelContents,
    PausedFiles,
    SessionJournal,
)
from domains.session.records import REQUEST_KIND, SESSION_KIND

_SWEEP_SECONDS = 0.5


class Settings(Protocol):
    """The settings that are read here."""

    @property
    def data_dir(self) -> Path: ...
    @property
    def queue_length_per_device(self) -> int: ...
    @property
    def time_slice_seconds(self) -> float: ...
    @property
    def session_retention_seconds(self) -> float: ...
    @property
    def sessions_kept(self) -> int: ...
    @property
    def heartbeat_seconds(self) -> float: ...


@dataclass(frozen=True)
class Built:
    """What other domains and the server need of it."""

    sessions: Sessions
    reader: SessionReader
    runner: SessionRunner
    converter: SessionConverter
    streams: SessionStreams
    starters: Starters
    paused: PausedFiles
    draining: Draining
    loops: tuple[Loop, ...]


def build(
    settings: Settings,
    artifacts: ArtifactReader,
    reports: Reports,
    journal: SessionJournal,
    *,
    describe: FaultReporter,
    admit: Callable[[SessionPlan | Session], None],
    holds: Callable[[str, str], bool],
    models: Callable[[], ModelContents],
    clock: Clock,
) -> Built:
    """Sessions as `settings` describe them; nothing runs yet.

    Args:
        settings: What the operator chose.
        artifacts: Where finished pictures are read back from.
        reports: What sessions of other domains report, as messages.
        journal: What outlives the server.
        describe: What a client sees of an error.
        admit: Raises when work must not begin now.
        holds: Whether a device's worker holds a model.
        models: What models are made of, once the system runs.
        clock: The time.
    """
    changes = SessionChanges(
        clock,
        heartbeat_seconds=settings.heartbeat_seconds,
        gone_kept=settings.sessions_kept,
    )
    converter = SessionConverter(reports)
    sessions = Sessions(
        describe=describe,
        queue_length=settings.queue_length_per_device,
        slice_seconds=settings.time_slice_seconds,
        retention=timedelta(seconds=settings.session_retention_seconds),
        kept=settings.sessions_kept,
        changes=changes,
        clock=clock,
        admit=admit,
        holds=holds,
        models=models,
        keeping=Keeping(
            journal.records(SESSION_KIND),
            journal.records(REQUEST_KIND),
            journal.sessions,
            converter.kept,
            named_in_kept,
            clock,
        ),
    )
    reader = SessionReader(
        artifacts,
        heartbeat_seconds=settings.heartbeat_seconds,
        clock=clock,
        settled=sessions.settled,
    )
    runner = SessionRunner(sessions, reader)
    starters = Starters()
    streams = SessionStreams(runner, converter, starters)
    draining = Draining(sessions)
    taking_up = TakingUp(sessions, starters.again, describe, clock)
    loops = (
        Loop("expired sessions", _SWEEP_SECONDS, sessions.sweep),
        Loop("paused sessions of a drain", _SWEEP_SECONDS, draining.look),
        Loop("sessions of an earlier server", _SWEEP_SECONDS, taking_up.run),
    )
    paused = PausedFolder(settings.data_dir / "paused")
    return Built(
        sessions, reader, runner, converter, streams, starters, paused, draining, loops
    )
