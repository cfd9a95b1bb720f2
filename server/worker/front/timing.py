"""How long the front waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerTiming:
    """How long the front waits for what, in seconds."""

    start: float = 120.0
    """From spawning to hello."""
    cancel_grace: float = 10.0
    """From asking a run to stop to killing its worker."""
    hang: float = 60.0
    """Without progress, before a run counts as hung; or `hang_steps` mean steps if longer."""
    hang_steps: float = 20.0
    beat: float = 30.0
    """Without a sign of life."""
    send: float = 10.0
    """For the worker to take a frame."""
    exit: float = 5.0
    """For a worker that said it ends, or whose link is closed, to end."""
