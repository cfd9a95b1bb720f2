"""Errors of batches."""

from __future__ import annotations

from domains.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Reason,
    ResourceExhausted,
)


class BatchNotFound(NotFound):
    """No such batch, or it has been forgotten with its session."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(
            f"There is no batch {batch_id!r}; finished batches are kept as long as their"
            " sessions.",
            reason=Reason.BATCH_NOT_FOUND,
            metadata={"batch_id": batch_id},
        )


class BatchForgotten(NotFound):
    """The batch that a session made is there no more, though the session is."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"The batch that session {session_id!r} made has been forgotten or damaged; make"
            " another one with another request_id.",
            reason=Reason.BATCH_NOT_FOUND,
            metadata={"session_id": session_id},
        )


class BatchConflict(FailedPrecondition):
    """How the batch or one of its items stands does not allow what was asked."""

    def __init__(self, batch_id: str, message: str) -> None:
        super().__init__(message, reason=Reason.STATE_CONFLICT, metadata={"batch_id": batch_id})


class ItemIdTaken(AlreadyExists):
    """Another item of the batch has that name."""

    def __init__(self, item_id: str, path: str) -> None:
        super().__init__(
            f"{path}.item_id: the batch has another item of this name; choose another one.",
            reason=Reason.NAME_TAKEN,
            metadata={"item_id": item_id, "field": f"{path}.item_id"},
        )


class BatchQuotaExceeded(ResourceExhausted):
    """A client's batches hold as many bytes as they may."""

    def __init__(self, held: int, most: int) -> None:
        super().__init__(
            f"Batches of one client may hold {most} bytes of requests, and they would hold"
            f" {held}; send pictures as artifacts, or delete batches that have ended.",
            reason=Reason.CLIENT_QUOTA_EXCEEDED,
            metadata={"held_bytes": str(held), "most_bytes": str(most)},
        )
