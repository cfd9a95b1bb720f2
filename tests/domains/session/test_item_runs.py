"""Runs of an item: how they are kept, and how clients hear of them."""

from __future__ import annotations

from datetime import UTC, datetime

from domains.codec import decode, encode
from domains.session.convert import SessionConverter
from domains.session.records import KeptEntry, SessionRecord
from domains.session.types import ItemFinished, SessionEvent, SessionKind, WorkOptions
from domains.session.types.runs import run_name, run_of
from domains.values import PlacementDecision

NOW = datetime(2026, 11, 29, tzinfo=UTC)
LONGEST = run_name("s" * 127, 10**6)


def test_a_run_is_told_by_its_item_and_its_number() -> None:
    ended = ItemFinished(LONGEST, 1, 0, 1, session_id="child")
    message = SessionConverter({}).event(SessionEvent("s", 1, NOW, ended, item_id=LONGEST))
    assert (message.item_id, message.run_index) == ("s" * 127, 10**6)
    assert message.item_finished.item_id == "s" * 127
    assert message.item_finished.session_id == "child"
    plain = SessionConverter({}).event(SessionEvent("s", 1, NOW, ended, item_id="a#1"))
    assert (plain.item_id, plain.HasField("run_index")) == ("a#1", False)
    assert run_of("a#1") == ("a#1", None)


def test_a_session_that_is_a_run_of_a_step_is_kept() -> None:
    record = SessionRecord(
        session_id="child",
        kind=SessionKind.GENERATION,
        owner="mary",
        digest=b"",
        options=WorkOptions(),
        placement=PlacementDecision.named("cpu:0"),
        model_id="",
        companion_ids=(),
        parent_session_id="run",
        create_time=NOW,
        start_time=None,
        end_time=None,
        total_seconds=0.0,
        share=0.0,
        peak_memory=None,
        first_sequence=1,
        last_sequence=1,
        entries=(KeptEntry(1, NOW, "Accepted", b"", LONGEST),),
        item_id=LONGEST,
    )
    assert decode(SessionRecord, encode(record)) == record
