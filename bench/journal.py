"""What it costs that sessions outlive the server: accepting them, their events, their start.

python -m bench.journal
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from domains.clock import Clock
from domains.session.convert import SessionConverter
from domains.session.core.changes import SessionChanges
from domains.session.core.keeping import Keeping
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.records import REQUEST_KIND, SESSION_KIND
from domains.session.types import Phase, SessionKind, StepFinished, WorkOptions
from server.errors import describe_failure
from server.journal import Journal

SESSIONS = 200
TOGETHER = 10_000
EVENTS = 20_000


async def _unprepared() -> SessionPlan:
    raise AssertionError("it is open already")


async def _work(session: Session) -> None:
    await asyncio.Event().wait()


def _registry(journal: Journal | None) -> Sessions:
    clock = Clock()
    keeping = None
    if journal is not None:
        records, requests = journal.records(SESSION_KIND), journal.records(REQUEST_KIND)
        keeping = Keeping(records, requests, SessionConverter({}).kept, clock)
    return Sessions(
        describe=describe_failure,
        queue_length=TOGETHER + SESSIONS,
        slice_seconds=30,
        retention=timedelta(hours=1),
        kept=TOGETHER,
        changes=SessionChanges(clock, heartbeat_seconds=5, gone_kept=10),
        clock=clock,
        keeping=keeping,
    )


async def _accept(sessions: Sessions, device_id: str) -> Session:
    plan = SessionPlan(SessionKind.GENERATION, device_id, (Phase.QUEUED,), _work)
    session = sessions.open(plan, plan.work, SessionRequest(WorkOptions(), b"", _unprepared))
    await sessions.accepted(session)
    return session


async def _one_by_one(sessions: Sessions) -> float:
    """Microseconds for a session that is accepted alone."""
    begin = time.perf_counter()
    for number in range(SESSIONS):
        await _accept(sessions, f"alone:{number}")
    return (time.perf_counter() - begin) / SESSIONS * 1e6


async def _together(sessions: Sessions) -> float:
    """Microseconds for one of sessions that are accepted at the same time."""
    begin = time.perf_counter()
    await asyncio.gather(*(_accept(sessions, f"cpu:{n}") for n in range(TOGETHER)))
    return (time.perf_counter() - begin) / TOGETHER * 1e6


async def _event(sessions: Sessions) -> float:
    """Microseconds for an event of a session."""
    session = await _accept(sessions, "events:0")
    begin = time.perf_counter()
    for step in range(EVENTS):
        session.record(StepFinished(0, step % 100 + 1, 100))
    return (time.perf_counter() - begin) / EVENTS * 1e6


@contextmanager
def _journal() -> Iterator[Journal]:
    with tempfile.TemporaryDirectory(prefix="deviceops-bench-") as folder:
        journal = Journal(Path(folder) / "journal.sqlite")
        journal.open()
        try:
            yield journal
            journal.close()
            begin = time.perf_counter()
            again = Journal(Path(folder) / "journal.sqlite")
            again.open()
            sessions = _registry(again)
            sessions.recall()
            took = time.perf_counter() - begin
            count = len(sessions.all())
            again.close()
            print(f"remembering {count} sessions at the start: {took:.2f} s")
        finally:
            journal.close()


async def _measure(journal: Journal | None) -> dict[str, float]:
    sessions = _registry(journal)
    measured = {
        "accepted alone": await _one_by_one(sessions),
        "event": await _event(sessions),
        f"one of {TOGETHER} at once": await _together(sessions),
    }
    await sessions.stop(0)
    return measured


async def _compared() -> None:
    without = await _measure(None)
    with _journal() as journal:
        with_journal = await _measure(journal)
    print(f"{'microseconds':24} {'without':>10} {'journal':>10} {'ratio':>7}")
    for name, before in without.items():
        after = with_journal[name]
        print(f"{name:24} {before:10.1f} {after:10.1f} {after / before:7.2f}")


def main() -> None:
    """Print what each costs without a journal and with one, in the same run."""
    asyncio.run(_compared())


if __name__ == "__main__":
    main()
