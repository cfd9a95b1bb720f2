"""Batches and their items as rows of tables and as details."""

from __future__ import annotations

from collections.abc import Iterable

from deviceops.v1 import batch_pb2, session_pb2
from server.cli.wording import duration, enum_word, moment, seconds_of

HEADINGS = (
    "batch",
    "state",
    "items",
    "done",
    "failed",
    "cancelled",
    "left",
    "owner",
    "accepted",
)
ITEM_HEADINGS = ("item", "state", "tries", "pictures", "session", "why")


def rows(batches: Iterable[batch_pb2.Batch]) -> list[tuple[str, ...]]:
    """A row for each batch under HEADINGS."""
    return [
        (
            batch.batch_id,
            state_word(batch.state),
            str(batch.item_count) + ("" if batch.sealed else "+"),
            str(batch.completed_count),
            str(batch.failed_count or ""),
            str(batch.cancelled_count or ""),
            _remaining(batch),
            batch.owner,
            moment(batch.create_time),
        )
        for batch in batches
    ]


def item_rows(items: Iterable[batch_pb2.BatchItemStatus]) -> list[tuple[str, ...]]:
    """A row for each item under ITEM_HEADINGS."""
    return [
        (
            item.item_id,
            state_word(item.state),
            str(item.attempt_count or ""),
            ", ".join(image.artifact_id[:12] for image in item.images),
            item.session_id,
            item.failure.message,
        )
        for item in items
    ]


def facts(batch: batch_pb2.Batch) -> list[tuple[str, str]]:
    """Everything about a batch by name; empty where it has nothing of the kind."""
    return [
        ("batch", batch.batch_id),
        ("session", batch.session_id),
        ("state", state_word(batch.state)),
        ("why", batch.end_reason),
        ("items", f"{batch.item_count}" + ("" if batch.sealed else ", more may come")),
        ("completed", str(batch.completed_count)),
        ("failed", str(batch.failed_count or "")),
        ("cancelled", str(batch.cancelled_count or "")),
        ("time left", _remaining(batch)),
        ("owner", batch.owner),
        ("tags", ", ".join(batch.options.tags)),
        ("accepted", moment(batch.create_time)),
        ("ended", moment(batch.end_time)),
    ]


def state_word(state: session_pb2.SessionState.ValueType) -> str:
    """`running`."""
    return enum_word(session_pb2.SessionState, state, "SESSION_STATE_")


def _remaining(batch: batch_pb2.Batch) -> str:
    if not batch.HasField("estimated_remaining"):
        return ""
    return f"about {duration(seconds_of(batch.estimated_remaining))}"
