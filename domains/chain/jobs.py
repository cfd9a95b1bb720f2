"""What a device's worker can be asked to look at."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from domains.codec import Name, Seconds, Value
from domains.picture.types import PreparedPicture
from domains.safety import Findings
from domains.session.jobs import Job

MOST = 16
"""Pictures of a check."""


class SafetyFindings(Value, frozen=True):
    """What classifiers say of each picture, in their order, and the seconds it took."""

    findings: Annotated[tuple[Findings, ...], Meta(max_length=MOST)]
    seconds: Seconds


class SafetyCheckJob(Job[SafetyFindings], frozen=True):
    """Score pictures by these classifiers; none means all that are installed."""

    pictures: Annotated[tuple[PreparedPicture, ...], Meta(max_length=MOST)]
    classifiers: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()

    @property
    def image_count(self) -> int:
        """Events are about that many pictures; none is made."""
        return len(self.pictures)
