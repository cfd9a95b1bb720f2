"""Sessions in the journal: written together, read back, and what a disk does to them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from domains import failpoints
from domains.codec import encode
from domains.errors import Reason, ResourceExhausted, Unavailable
from domains.records import Records
from domains.session.records import (
    SESSION_KIND,
    KeptSession,
    SessionRecord,
    kept_entry,
    record_in,
)
from domains.session.types import Accepted, SessionEvent, SessionKind, WorkOptions
from domains.values import PlacementDecision
from server import journal_rows, journal_schema
from server.journal import Journal
from server.journal_file import look
from tests.server.test_journal import fill_disk, set_aside

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


def record(session_id: str, tag: str = "") -> bytes:
    """A session that was accepted."""
    accepted = Accepted(SessionKind.GENERATION, 0, (), (7,), 4)
    return encode(
        SessionRecord(
            session_id=session_id,
            kind=SessionKind.GENERATION,
            owner="ada",
            digest=b"",
            options=WorkOptions(tags=(tag,)),
            placement=PlacementDecision.named("cpu:0"),
            model_id="model",
            companion_ids=(),
            parent_session_id="",
            create_time=MOMENT,
            start_time=None,
            end_time=None,
            total_seconds=0,
            share=0,
            peak_memory=None,
            first_sequence=1,
            last_sequence=1,
            entries=(kept_entry(SessionEvent(session_id, 1, MOMENT, accepted), None),),
        )
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def reopened(path: Path) -> Iterator[Callable[[], Journal]]:
    """A journal on the same file again; the one before is closed."""
    opened: list[Journal] = []

    def reopen() -> Journal:
        while opened:
            opened.pop().close()
        opened.append(Journal(path))
        opened[-1].open()
        return opened[-1]

    yield reopen
    for journal in opened:
        journal.close()


Reopen = Callable[[], Journal]


def rows(path: Path) -> list[str]:
    """Ids of sessions in the file, as another program sees it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT key FROM records ORDER BY number").fetchall()
    return [session_id for (session_id,) in found]


def sessions(journal: Journal) -> Records:
    """Where it keeps sessions."""
    return journal.records(SESSION_KIND)


def remembered(journal: Journal) -> tuple[bytes, ...]:
    """The records of an earlier server's sessions."""
    return tuple(sessions(journal).found().values())


def settled(journal: Journal) -> None:
    """Everything that was asked for was tried."""
    journal._thread.submit(lambda: None).result()


async def test_what_was_accepted_is_there_in_its_order(path: Path, reopened: Reopen) -> None:
    journal = reopened()
    assert remembered(journal) == ()
    for session_id in "cab":
        await sessions(journal).accept(session_id, record(session_id))
        assert rows(path)[-1] == session_id
    sessions(journal).put("a", record("a", "changed"))
    sessions(journal).remove("c")
    again = reopened()
    assert remembered(again) == (record("a", "changed"), record("b"))
    await sessions(again).accept("c", record("c"))
    assert remembered(reopened()) == (record("a", "changed"), record("b"), record("c"))


async def test_what_waits_at_the_same_time_is_one_transaction(
    path: Path, reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = reopened()
    commits: list[int] = []
    before = journal._file.written

    def counted(write: Callable[[], None]) -> Exception | None:
        error = before(write)
        commits.append(len(rows(path)))
        return error

    monkeypatch.setattr(journal._file, "written", counted)
    busy = threading.Event()
    journal._thread.submit(busy.wait)
    names = [f"s{number}" for number in range(500)]
    accept = sessions(journal).accept
    accepting = [asyncio.ensure_future(accept(each, record(each))) for each in names]
    await asyncio.sleep(0)
    busy.set()
    await asyncio.gather(*accepting)
    assert commits == [500]
    assert rows(path) == names


async def test_a_full_disk_takes_no_session_and_an_end_waits_for_it(
    path: Path, reopened: Reopen
) -> None:
    journal = reopened()
    await sessions(journal).accept("first", record("first"))
    fill_disk(journal)
    large = WorkOptions(metadata={"key": "x" * 100_000})
    ended = encode({**_fields("first"), "options": large})
    with pytest.raises(ResourceExhausted) as told:
        await sessions(journal).accept("second", record("second", "x" * 100_000))
    assert told.value.reason is Reason.DISK_FULL
    assert "not accepted" in told.value.message
    journal.put("key", b"there is room again")
    fill_disk(journal)
    sessions(journal).put("first", ended)
    settled(journal)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute("SELECT body FROM records").fetchone()
    assert body == record("first")
    journal.record(1_900_000_000.0, [])  # what comes every second
    settled(journal)
    assert rows(path) == ["first"]
    assert remembered(reopened()) == (ended,)


def _fields(session_id: str) -> dict[str, object]:
    plain: dict[str, object] = msgspec.msgpack.decode(record(session_id))
    return plain


async def test_without_memory_a_session_is_refused_and_the_next_is_taken(
    path: Path, reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(name: str) -> None:
        raise MemoryError  # as sqlite3 does where SQLite has none

    journal = reopened()
    with monkeypatch.context() as lacking:
        lacking.setattr(failpoints, "reach", lack)
        with pytest.raises(ResourceExhausted) as caught:
            async with asyncio.timeout(20):
                await sessions(journal).accept("first", record("first"))
    assert caught.value.reason is Reason.HOST_OUT_OF_MEMORY
    await sessions(journal).accept("second", record("second"))
    assert rows(path) == ["second"]


async def test_a_file_that_is_deleted_is_written_anew(path: Path, reopened: Reopen) -> None:
    journal = reopened()
    for session_id in "ab":
        await sessions(journal).accept(session_id, record(session_id))
    for each in path.parent.glob("journal.sqlite*"):
        each.unlink()
    await sessions(journal).accept("c", record("c"))
    assert rows(path) == ["a", "b", "c"]


async def test_a_journal_that_is_closed_takes_none(reopened: Reopen) -> None:
    journal = reopened()
    journal.close()
    with pytest.raises(Unavailable) as told:
        await sessions(journal).accept("a", record("a"))
    assert told.value.reason is Reason.SHUTTING_DOWN
    sessions(journal).put("a", record("a"))


async def test_a_file_that_cannot_be_written_is_read(
    path: Path, reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sessions(reopened()).accept("a", record("a"))
    reopened().close()
    journal = Journal(path)
    monkeypatch.setattr(
        journal._file, "written", lambda write: sqlite3.OperationalError("it is locked")
    )
    journal.open()
    assert remembered(journal) == (record("a"),)
    with pytest.raises(Unavailable) as told:
        await sessions(journal).accept("b", record("b"))
    assert told.value.reason is Reason.STORAGE_UNAVAILABLE
    journal.close()


async def test_sessions_of_an_earlier_server_are_decoded_once(
    reopened: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = reopened()
    for session_id in "cab":
        await sessions(journal).accept(session_id, record(session_id, "first"))
    decoded: list[bytes] = []

    def counted(body: bytes) -> KeptSession:
        decoded.append(body)
        return record_in(body)

    monkeypatch.setattr(journal_rows, "record_in", counted)
    journal = reopened()
    found = journal.sessions()
    assert [kept.session_id for kept, _ in found] == ["c", "a", "b"]
    assert decoded == [record(session_id, "first") for session_id in "cab"]
    assert [(kept, events) for kept, events in found] == [*map(record_in, decoded)]
    assert journal.sessions() == []  # they are not kept beside those that replace them
    assert remembered(journal) == ()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE records SET body = x'00' WHERE key = 'a'",
        "UPDATE records SET sha256 = body WHERE key = 'a'",
        "UPDATE records SET key = 'other' WHERE key = 'a'",
        "UPDATE records SET body = 'text' WHERE key = 'a'",
    ],
)
async def test_a_damaged_row_costs_that_session_alone(
    path: Path, reopened: Reopen, change: str
) -> None:
    journal = reopened()
    for session_id in "ab":
        await sessions(journal).accept(session_id, record(session_id))
    journal.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(change)
    assert look(path).damaged == 1
    assert remembered(reopened()) == (record("b"),)
    assert len(set_aside(path)) == 1
    assert rows(path) == ["b"]


def test_a_journal_of_the_version_before_has_no_sessions(path: Path, reopened: Reopen) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statements in journal_schema.MIGRATIONS[:2]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("INSERT INTO facts VALUES ('key', x'01')")
        connection.execute("PRAGMA user_version=2")
    journal = reopened()
    assert journal.get("key") == b"\x01"
    assert remembered(journal) == ()
    assert set_aside(path) == []


async def test_a_key_may_say_whose_a_record_is(reopened: Reopen) -> None:
    """As those of workflows and policies do."""
    await reopened().records("workflows").accept("Jörg M./my-workflow", b"1")
    assert reopened().records("workflows").found() == {"Jörg M./my-workflow": b"1"}


async def test_what_an_earlier_server_kept_is_given_out_once_and_kept_on(
    reopened: Reopen,
) -> None:
    """Whoever has it replaces it: nobody holds both. Other kinds are still there."""
    first = reopened()
    await first.records("workflows").accept("a", b"1")
    await first.records("policies").accept("b", b"2")
    for _ in range(2):  # and again by the next server
        journal = reopened()
        assert journal.records("workflows").found() == {"a": b"1"}
        assert journal.records("workflows").found() == {}
        assert journal.records("policies").found() == {"b": b"2"}
