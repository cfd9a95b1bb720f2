"""What is kept of a session beyond the server's life: a value that the journal stores as bytes.

Progress (steps, bytes) is not in it: a session that is remembered has the log of one that gave
it up. A report is kept as the message that clients know it by, since that form stays readable
by later versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any

from msgspec import Meta, structs

from domains.codec import (
    Malformed,
    ModelId,
    Moment,
    Name,
    Seconds,
    Text,
    Value,
    decode,
    encode,
)
from domains.records import LARGEST_BYTES
from domains.session import types
from domains.session.turns import Paused, Resumed, Retried, Yielded
from domains.values import ByteFigure, ModelContent, PlacementDecision

SESSION_KIND = "session"
"""Of records of sessions; one of a batch of 256 pictures has less than one megabyte."""
REQUEST_KIND = "session-request"
"""Of records of what sessions that have not ended can be begun anew from."""
_Number = Annotated[int, Meta(ge=0, lt=1 << 62)]
_Bytes = Annotated[bytes, Meta(max_length=LARGEST_BYTES)]
_KINDS: Mapping[str, type[types.Entry]] = {
    kind.__name__: kind
    for kind in (
        *(types.Accepted, types.PhaseStarted, types.TextEncoded, types.ImageDecoded),
        *(types.ImageFinished, types.ItemFinished, Paused, Resumed, Yielded, Retried),
        *(types.Completed, types.Failed, types.Cancelled),
    )
}


class KeptMessage(Value, frozen=True):
    """A report or a request as its message: the message's full name, and its bytes."""

    message: Name
    body: _Bytes


class KeptEntry(Value, frozen=True):
    """An entry of a log: its kind by name, and the value without its report."""

    sequence: _Number
    event_time: Moment
    kind: Name
    body: _Bytes
    item_id: types.ItemId = ""
    report: KeptMessage | None = None


class SessionRecord(Value, frozen=True):
    """A session as it was accepted or, with the end as the last of `entries`, as it ended.

    `digest` stands for its request, `item_id` is which step or item of its parent it is.
    `share` is how much of it was done, from 0 to 1. `lost_turns` are those that had begun and
    had come to no end. `contents` are those of models that it was accepted for; a version
    before noted none.
    """

    session_id: Name
    kind: types.SessionKind
    owner: Text
    digest: Annotated[bytes, Meta(max_length=64)]
    options: types.WorkOptions
    placement: PlacementDecision
    model_id: ModelId
    companion_ids: Annotated[tuple[ModelId, ...], Meta(max_length=1_000)]
    parent_session_id: Text
    create_time: Moment
    start_time: Moment | None
    end_time: Moment | None
    total_seconds: Seconds
    share: Annotated[float, Meta(ge=0, le=1)]
    peak_memory: ByteFigure | None
    first_sequence: _Number
    last_sequence: _Number
    entries: Annotated[tuple[KeptEntry, ...], Meta(max_length=1_000_000)]
    item_id: types.ItemId = ""
    paused: bool = False
    lost_turns: Annotated[int, Meta(ge=0, lt=1 << 30)] = 0
    method: Text = ""
    contents: Annotated[tuple[ModelContent, ...], Meta(max_length=1_000)] = ()


KeptSession = tuple[SessionRecord, list[types.SessionEvent]]
"""A record without its entries, and they as the log that they were."""


def kept_entry(event: types.SessionEvent, report: KeptMessage | None) -> KeptEntry:
    """An entry of a log as it is kept; `report` is the one that it has."""
    entry: Any = event.event
    kind, plain = type(entry).__name__, entry
    if hasattr(entry, "report"):  # of any type, which is no field of a value
        names = (each.name for each in fields(entry) if each.name != "report")
        plain = {name: getattr(entry, name) for name in names}
    body = encode(plain)
    return KeptEntry(event.sequence, event.event_time, kind, body, event.item_id, report)


def entry_of(session_id: str, kept: KeptEntry) -> types.SessionEvent:
    """The entry again; its report is a `KeptMessage`.

    Raises:
        Malformed: It is of no kind there is, or not as that is declared.
    """
    kind = _KINDS.get(kept.kind)
    if kind is None:
        raise Malformed("an entry of a log is of no known kind")
    entry: Any = decode(kind, kept.body)
    if kept.report is not None:
        if not hasattr(entry, "report"):
            raise Malformed("an entry of a log has a report that has none")
        entry = replace(entry, report=kept.report)
    return types.SessionEvent(
        session_id, kept.sequence, kept.event_time, entry, item_id=kept.item_id
    )


def record_in(body: bytes) -> KeptSession:
    """What the bytes of a record are.

    Raises:
        Malformed: The bytes are no record, or its log is none: its numbers do not rise, or it
            goes on after its end.
    """
    record = decode(SessionRecord, body)
    events = [entry_of(record.session_id, kept) for kept in record.entries]
    numbers = [event.sequence for event in events]
    ends = [isinstance(event.event, types.Terminal) for event in events]
    if not numbers or numbers != sorted({*numbers}) or numbers[-1] > record.last_sequence:
        raise Malformed("the entries of a log are not in their order")
    if any(ends[:-1]):
        raise Malformed("a log goes on after its end")
    return structs.replace(record, entries=()), events
