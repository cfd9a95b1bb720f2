"""Errors that every domain raises which goes by safety policies."""

from __future__ import annotations

from domains.errors import NotFound, Reason


class ClassifierMissing(NotFound):
    """What should score is not installed."""

    def __init__(self, classifier: str, install: str) -> None:
        what = f"The classifier {classifier}" if classifier else "A safety classifier"
        super().__init__(
            f"{what} is not installed: {install}, and start the server again.",
            reason=Reason.POSTPROCESSOR_NOT_FOUND,
            metadata={"postprocessor_id": classifier},
        )
