"""Errors of chains."""

from __future__ import annotations

from domains.errors import InvalidArgument, NotFound, Reason


class InvalidChain(InvalidArgument):
    """A chain breaks a rule."""


class PostprocessorMissing(NotFound):
    """A step needs what is not installed, or names what is not there."""

    def __init__(self, field: str, why: str, postprocessor_id: str = "") -> None:
        super().__init__(
            f"{field}: {why}",
            reason=Reason.POSTPROCESSOR_NOT_FOUND,
            metadata={"field": field, "postprocessor_id": postprocessor_id},
        )
