"""What is wrong with a worker that says nothing is: the rules by which it counts as hung."""

from __future__ import annotations

import time
from dataclasses import dataclass

from server.worker.conversation import Conversation
from server.worker.timing import WorkerTiming


@dataclass(frozen=True)
class Complaint:
    """`words` complete "The worker ...". Not `about_run`: its run is lost by accident."""

    words: str
    about_run: bool = True


def complain(
    talk: Conversation, timing: WorkerTiming, blocked: float, *, one_lane: bool
) -> Complaint | None:
    """What there is to complain about now.

    Args:
        talk: With the worker.
        timing: How long to wait for what.
        blocked: Seconds for which it has not taken the order that is being sent.
        one_lane: Its memory orders wait for each other and for its run's checkpoints.
    """
    now, run = time.monotonic(), talk.run
    if now - talk.alive_at > timing.beat:
        return Complaint(f"gave no sign of life for {timing.beat:g} s")
    if blocked > timing.send:
        return Complaint(f"took no order for {timing.send:g} s")
    if run is not None and run.stop_error is None:
        patience = max(timing.hang, timing.hang_steps * run.mean_step)
        if now - run.last_progress > patience:
            return Complaint(f"made no progress for {patience:.0f} s")
    since = talk.orders.stuck_since(one_lane=one_lane)
    if since is not None and one_lane and run is not None:
        since = max(since, run.last_progress)
    if since is not None and now - since > timing.hang:
        words = f"did not answer a memory order for {timing.hang:g} s"
        return Complaint(words, about_run=False)
    return None
