"""The rules by which a worker counts as hung."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from server.worker.front.conversation import Conversation
from server.worker.front.timing import WorkerTiming

_HELD_UP_SECONDS = 1.0


async def rested(seconds: float) -> float:
    """Sleep for so long. Returns for how long this process was held up meanwhile, and whatever
    it watches perhaps with it, where that is more than a second: a machine sleeps, a container
    is paused.
    """
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    late = time.monotonic() - begun - seconds
    return late if late > _HELD_UP_SECONDS else 0.0


@dataclass(frozen=True)
class Hang:
    """What a worker fails to do; `words` complete "The worker ...".

    With `about_run` its run hangs, else something beside the run does.
    """

    words: str
    about_run: bool = True


class Suspicion:
    """What is late must be late twice in a row: the front itself may have slept."""

    def __init__(self) -> None:
        self._last: Hang | None = None

    def confirm(self, hang: Hang | None) -> Hang | None:
        """The hang that is seen now, if it was seen the time before as well."""
        last, self._last = self._last, hang
        return hang if hang == last else None


def find_hang(
    conversation: Conversation, timing: WorkerTiming, blocked: float, *, one_lane: bool
) -> Hang | None:
    """What the worker fails to do now; None while all is well.

    Args:
        conversation: With the worker.
        timing: How long to wait for what.
        blocked: Seconds for which it has not taken the order that is being sent.
        one_lane: Its memory orders wait for each other and for its run to check for a stop.
    """
    now, run = time.monotonic(), conversation.run
    if now - conversation.alive_at > timing.beat:
        return Hang(f"gave no sign of life for {timing.beat:g} s")
    if blocked > timing.send:
        return Hang(f"took no order for {timing.send:g} s")
    if run is not None and run.stop_error is None:
        patience = max(timing.hang, timing.hang_steps * run.mean_step)
        if now - run.last_progress > patience:
            return Hang(f"made no progress for {patience:.0f} s")
    since = conversation.orders.stuck_since(one_lane=one_lane)
    if since is not None and one_lane and run is not None:
        since = max(since, run.last_progress)
    if since is not None and now - since > timing.hang:
        words = f"did not answer a memory order for {timing.hang:g} s"
        return Hang(words, about_run=False)
    return None
