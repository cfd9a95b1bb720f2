"""How far the host is ahead of its device while steps are queued."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from domains.device.backends.torch_gauge import backend_of

# Of a step: how long before its end the next one is to be queued, and at least so long.
_SHARE, _LEAST_SECONDS = 0.2, 0.002
_PAUSE_SECONDS = 0.001


class StepFence:
    """Keeps the host at most one step ahead of the device, and for as short as it may be.

    Without it the host queues every step at once: progress would be reported long before
    the work is done, and stopping would wait for the whole queue. What is queued cannot be
    taken back, so a step is queued only shortly before the one at work ends: whoever stops
    the work before that waits for the rest of that one alone.

    Args:
        device: Where they are queued; where calls block, nothing is waited for.
        late: Asked again and again; whenever it says no, a step is queued as soon as the one
            before it is at work: for where other threads or others' work may hold up the host.
    """

    def __init__(
        self, device: torch.device, *, late: Callable[[], bool] = lambda: True
    ) -> None:
        backend = backend_of(device)
        self._new_event = getattr(backend, "Event", None)
        self._late = late
        self._last: Any = None
        self._began = self._due = 0.0
        self._ended: float | None = None

    def await_turn(self, check: Callable[[], None]) -> None:
        """Return once the next step is to be queued.

        Args:
            check: Called at least once, and again and again meanwhile; may raise to stop.
        """
        check()
        while self._is_early():
            time.sleep(_PAUSE_SECONDS)
            check()
        self._began = time.perf_counter()

    def step_queued(self) -> None:
        """Wait for the step before the one just queued."""
        if self._new_event is None:
            return
        event = self._new_event()
        event.record()
        queueing = time.perf_counter() - self._began
        starved = self._last is None or self._last.query()
        self.wait()
        now = time.perf_counter()
        if self._last is not None:
            # The device begins with the queued one now, and will take as long as for this.
            took = 0.0 if starved or self._ended is None else now - self._ended
            self._due = now + took - max(_SHARE * took, _LEAST_SECONDS) - queueing
            self._ended = now
        self._last = event

    def wait(self) -> None:
        """Wait for the step that was queued last."""
        if self._last is not None:
            self._last.synchronize()

    def _is_early(self) -> bool:
        """Whether the step at work goes on for longer than it takes to queue the next one."""
        return (
            self._last is not None
            and time.perf_counter() < self._due
            and self._late()
            and not self._last.query()
        )
