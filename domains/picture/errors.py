"""Errors of input pictures."""

from __future__ import annotations

from domains.errors import FieldViolation, InvalidArgument, NotFound, Reason


class PictureRefused(InvalidArgument):
    """A picture cannot be used. An inspector says so without a field; whoever asked for it
    names that."""

    def __init__(self, reason: Reason, rule: str) -> None:
        super().__init__(rule, reason=reason)


class InvalidPicture(InvalidArgument):
    """A field holds a picture that cannot be used."""

    @classmethod
    def at(cls, field: str, reason: Reason, rule: str) -> InvalidPicture:
        """What is wrong with the picture in that field."""
        return cls.of(FieldViolation(field, reason, rule))


class PictureNotFound(NotFound):
    """A session has no such finished picture."""

    def __init__(self, field: str, session_id: str, image_index: int) -> None:
        super().__init__(
            f"{field}: the session has no finished picture {image_index}; name one that "
            "it has finished.",
            reason=Reason.ARTIFACT_NOT_FOUND,
            metadata={
                "field": field,
                "session_id": session_id,
                "image_index": str(image_index),
            },
        )
