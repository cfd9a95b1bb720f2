"""Errors of image generation."""

from __future__ import annotations

from domains.errors import InvalidArgument, Unimplemented


class InvalidGeneration(InvalidArgument):
    """The request breaks rules of its content; all of them are listed."""


class MaskNeeded(Unimplemented):
    """The model fills in masked parts of pictures, and this version takes no masks."""

    def __init__(self, model_id: str) -> None:
        super().__init__(
            f"Model {model_id!r} fills in a masked part of a picture, and inpainting comes "
            "later; choose a model that draws from text.",
            metadata={"model_id": model_id, "fields": "inpainting"},
        )
