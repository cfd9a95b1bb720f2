"""One run of a step that has no session: done by the run itself, tried again."""

from __future__ import annotations

import asyncio

from domains.errors import DomainError
from domains.processing.workflows.core.stepping import NEVER_BETTER, StepRun
from domains.processing.workflows.types import Ended, Ending
from domains.session.errors import ShuttingDown
from domains.session.types import ItemFinished


class OwnStepRun(StepRun):
    """As `StepRun`. What it did is in the run's log alone, which is written down when the run
    pauses: what was kept before that is not kept again by another server, who made pictures is
    looked at anew, and memory, which ended with the server, is taken and freed again."""

    async def end(self) -> Ended:
        """Have it done; returns how it ended."""
        before = self._told()
        if before is not None and before.failure is not None:
            self.failure = before.failure
            return Ended(Ending.FAILED)
        if before is not None and self.step.work == "store":
            return Ended(Ending.DONE, before.images)
        attempt = 1
        while True:
            await self.may_begin.wait()
            try:
                ended = await self.requests.do(self.place, self.inputs, self.run)
            except ShuttingDown:
                await asyncio.Event().wait()  # the run is suspended, and this with it
                raise
            except DomainError as error:
                failure = error.failure()
            else:
                self._tell_own(ended)
                return ended
            if attempt >= self.step.retries.max_attempts or failure.code in NEVER_BETTER:
                self.failure = failure
                return Ended(Ending.FAILED)
            await self.back_off(attempt)
            attempt += 1

    def _told(self) -> ItemFinished | None:
        """What the run's log says of its end, of an earlier server or before a pause."""
        entries = self.run.log.entries()
        ends = (each for each in entries if isinstance(each, ItemFinished))
        return next((each for each in ends if each.item_id == self.name), None)

    def _tell_own(self, ended: Ended) -> None:
        if self.result:
            told = sum(image.item_id == self.name for image in self.run.images)
            for image in ended.images[told:]:
                self.take(image)
