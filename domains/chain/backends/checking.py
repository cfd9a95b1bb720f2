"""Scoring the pictures of a check, one after another."""

from __future__ import annotations

import time
from contextlib import suppress

from domains.chain.backends.classifiers import Classifiers
from domains.chain.jobs import SafetyCheckJob, SafetyFindings
from domains.picture.backends.prepared import read_pixels
from domains.session.jobs import JobContext, WorkPaused
from domains.session.types import Phase, PhaseStarted


class SafetyChecking:
    """Does jobs of `SafetyCheckJob`.

    Args:
        classifiers: Score them.
    """

    def __init__(self, classifiers: Classifiers) -> None:
        self._classifiers = classifiers

    def run(self, job: SafetyCheckJob, context: JobContext) -> SafetyFindings:
        """Score every picture; the job can be stopped between two.

        Raises:
            DomainError: It is to stop, or as `read_pixels`.
        """
        begun = time.perf_counter()
        findings = []
        for index, picture in enumerate(job.pictures):
            with suppress(WorkPaused):  # there is nothing to keep; it goes on
                context.check_stop()
            context.emit(PhaseStarted(Phase.CHECKING_SAFETY, index))
            pixels = read_pixels(picture)
            findings.append(self._classifiers.findings(pixels, job.classifiers))
        return SafetyFindings(tuple(findings), time.perf_counter() - begun)
