"""The postprocessing domain, put together."""

from __future__ import annotations

from domains.postprocessing.core import PostprocessorInventory
from domains.postprocessing.safety.servicer import SafetyParts
from domains.postprocessing.servicer import PostprocessingServicer


def build(safety: SafetyParts) -> PostprocessingServicer:
    """The domain.

    Args:
        safety: What calls about safety are answered with.
    """
    return PostprocessingServicer(PostprocessorInventory(), safety)
