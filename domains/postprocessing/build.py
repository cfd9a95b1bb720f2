"""The postprocessing domain, put together."""

from __future__ import annotations

from domains.postprocessing.core import PostprocessorInventory
from domains.postprocessing.servicer import PostprocessingServicer


def build() -> PostprocessingServicer:
    """The domain; it needs nothing in this version."""
    return PostprocessingServicer(PostprocessorInventory())
