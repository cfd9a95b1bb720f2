"""Errors of image generation."""

from __future__ import annotations

from domains.errors import InvalidArgument


class InvalidGeneration(InvalidArgument):
    """The request breaks rules of its content; all of them are listed."""
