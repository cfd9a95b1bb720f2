"""Errors of image generation."""

from __future__ import annotations

from collections.abc import Sequence

from domains.errors import InvalidArgument, Unimplemented


class InvalidGeneration(InvalidArgument):
    """The request breaks rules of its content; all of them are listed."""


class FeatureNotBuilt(Unimplemented):
    """The request uses a part of the contract that this version does not do."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            f"This version does not do {', '.join(fields)} yet; leave it out.",
            metadata={"fields": ",".join(fields)},
        )
