"""Errors of image generation."""

from __future__ import annotations

from collections.abc import Sequence

from domains.errors import FieldViolation, InvalidArgument, Unimplemented


class InvalidGeneration(InvalidArgument):
    """The request breaks rules of its content; all of them are listed."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(
            f"{first.field}: {first.description}{more}",
            reason=first.reason,
            violations=violations,
        )


class FeatureNotBuilt(Unimplemented):
    """The request uses a part of the contract that this version does not do."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            f"This version does not do {', '.join(fields)} yet; leave it out.",
            metadata={"fields": ",".join(fields)},
        )
