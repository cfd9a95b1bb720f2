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

from bench.sections import Section
from domains.clock import Clock
from domains.session.convert import SessionConverter
from domains.session.convert.named import named_in_kept
from domains.session.core.changes import SessionChanges
from domains.session.core.keeping import Keeping
from domains.session.core.plan import SessionPlan, SessionRequest
from domains.session.core.session import Session
from domains.session.core.sessions import Sessions
from domains.session.records import REQUEST_KIND, SESSION_KIND
from domains.session.types import Phase, SessionKind, StepFinished, WorkOptions
from server.errors import describe_failure
from server.journal import Journal

NAME = "journal"
SESSIONS = 200
TOGETHER = 10_000
EVENTS = 20_000


async def _unprepared() -> SessionPlan:
    raise AssertionError("it is open already")


async def _work(session: Session) -> None:
    await asyncio.Event().wait()


def _registry(journal: Journal | None, together: int = TOGETHER) -> Sessions:
    clock = Clock()
    keeping = None
    if journal is not None:
        records, requests = journal.records(SESSION_KIND), journal.records(REQUEST_KIND)
        keeping = Keeping(
            records,
            requests,
            journal.sessions,
            SessionConverter({}).kept,
            named_in_kept,
            clock,
        )
    return Sessions(
        describe=describe_failure,
        queue_length=together + SESSIONS,
        slice_seconds=30,
        retention=timedelta(hours=1),
        kept=together,
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


async def _together(sessions: Sessions, count: int) -> float:
    """Microseconds for one of sessions that are accepted at the same time, for one device."""
    begin = time.perf_counter()
    await asyncio.gather(*(_accept(sessions, "cpu:0") for _ in range(count)))
    return (time.perf_counter() - begin) / count * 1e6


async def _event(sessions: Sessions) -> float:
    """Microseconds for an event of a session."""
    session = await _accept(sessions, "events:0")
    begin = time.perf_counter()
    for step in range(EVENTS):
        session.record(StepFinished(0, step % 100 + 1, 100))
    return (time.perf_counter() - begin) / EVENTS * 1e6


@contextmanager
def _journal(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder / "journal.sqlite")
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


def _remembered(folder: Path, together: int) -> tuple[int, float]:
    """How many sessions the next server finds, and seconds until it knows them."""
    begin = time.perf_counter()
    with _journal(folder) as journal:
        sessions = _registry(journal, together)
        sessions.recall()
        return len(sessions.all()), time.perf_counter() - begin


async def _measure(journal: Journal | None, together: int) -> dict[str, float]:
    sessions = _registry(journal, together)
    measured = {
        "a session accepted alone": await _one_by_one(sessions),
        "an event": await _event(sessions),
        f"one of {together} sessions accepted at once": await _together(sessions, together),
    }
    await sessions.stop(0)
    return measured


def measure(together: int) -> Section:
    """What each costs without a journal and with one; `together` are accepted at once."""
    without = asyncio.run(_measure(None, together))
    with tempfile.TemporaryDirectory(prefix="deviceops-bench-") as name:
        folder = Path(name)
        with _journal(folder) as journal:
            with_journal = asyncio.run(_measure(journal, together))
        count, seconds = _remembered(folder, together)
    rows = [
        (
            each,
            f"{before:.1f}",
            f"{with_journal[each]:.1f}",
            f"{with_journal[each] / before:.2f}",
        )
        for each, before in without.items()
    ]
    return Section(
        NAME,
        "Microseconds of sessions that outlive the server, and of those that do not.",
        [("", "without", "with a journal", "ratio"), *rows],
        notes=[f"the next server knows {count} sessions again in {seconds:.2f} s"],
    )


def main() -> None:
    """Print what each costs without a journal and with one, in the same run."""
    for row in measure(TOGETHER).table:
        print(
            "".join(f"{cell:>44}" if at == 0 else f"{cell:>16}" for at, cell in enumerate(row))
        )


if __name__ == "__main__":
    main()
