"""Models that end a device's workers, and how long they are kept off it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from domains.errors import FailedPrecondition, Internal, Reason
from domains.session.jobs import ModelFiles
from server.worker.front.restart import RestartRules
from server.worker.front.runs import Run

# For how long after a run its worker's end is still blamed on it.
_AFTERMATH_SECONDS = 5.0
_MOST_FILES = 1_000


class ModelBarred(FailedPrecondition):
    """The model ended workers of this device again and again."""

    def __init__(self, model_id: str, device_id: str, why: str, seconds: float) -> None:
        super().__init__(
            f"Model {model_id!r} ended the worker of device {device_id} again and again and is"
            f" kept off it for {seconds:.0f} s more, or until its files change or RestartWorker"
            f" is called. {why}",
            reason=Reason.MODEL_BARRED,
            metadata={"model_id": model_id, "device_id": device_id},
            retry_after=seconds,
        )


class WorkerCrashRepeated(Internal):
    """Work with the same model ended its worker a second time."""

    def __init__(self, model_id: str, device_id: str, deaths: int, why: str) -> None:
        super().__init__(
            f"Work with model {model_id!r} ended the worker of device {device_id} {deaths}"
            f" times within minutes; do not try it again as it is. {why}",
            reason=Reason.WORKER_CRASH_REPEATED,
            metadata={"model_id": model_id, "device_id": device_id, "deaths": str(deaths)},
        )


@dataclass
class _Suspect:
    """A model that cost workers: when, of what last, and how its files were then."""

    deaths: deque[float] = field(default_factory=deque)
    barred_until: float = 0.0
    barred_before: bool = False
    why: str = ""
    files: object = None


class ModelBars:
    """Counts one device's deaths by model. After a bar one more death brings it back.

    Args:
        device_id: Whose deaths.
        rules: Limits and times.
        clock: Monotonic seconds.
    """

    def __init__(self, device_id: str, rules: RestartRules, clock: Callable[[], float]) -> None:
        self._device_id = device_id
        self._rules = rules
        self._clock = clock
        self._suspects: dict[Path, _Suspect] = {}

    def died(self, model: ModelFiles, why: str, files: object) -> WorkerCrashRepeated | None:
        """Count a death; what the work ends with, unless it may be tried again.

        Args:
            model: What the worker worked with.
            why: A sentence.
            files: Their `state_of_files`.
        """
        rules, now = self._rules, self._clock()
        suspect = self._suspects.setdefault(model.path, _Suspect())
        suspect.deaths.append(now)
        while suspect.deaths[0] < now - rules.window:
            suspect.deaths.popleft()
        suspect.why, deaths = why, len(suspect.deaths)
        if suspect.barred_before or deaths >= rules.model_deaths:
            suspect.barred_until = now + rules.quarantine
            suspect.barred_before = True
            suspect.deaths.clear()
            suspect.files = files
        elif deaths < rules.poison_deaths:
            return None
        return WorkerCrashRepeated(model.model_id, self._device_id, deaths, why)

    def check(self, model: ModelFiles, files: object) -> None:
        """Refuse a model that is barred; one whose `state_of_files` changed is so no longer.

        Raises:
            ModelBarred: It is.
        """
        suspect = self._suspects.get(model.path)
        if suspect is None or not self.barred(model):
            return
        if files != suspect.files:
            del self._suspects[model.path]
            return
        left = suspect.barred_until - self._clock()
        raise ModelBarred(model.model_id, self._device_id, suspect.why, left)

    def barred(self, model: ModelFiles) -> bool:
        """Whether it is kept off the device, unless its files changed."""
        suspect = self._suspects.get(model.path)
        return suspect is not None and suspect.barred_until > self._clock()

    def worked(self, model: ModelFiles) -> None:
        """Work with the model came to its end: after a bar it is trusted again.

        Deaths within the window still count: with some requests it works, with others not.
        """
        suspect = self._suspects.get(model.path)
        if suspect is not None and not self.barred(model):
            suspect.barred_before = False

    def forgive(self) -> None:
        """Forget everything: an operator asks for a fresh start."""
        self._suspects.clear()


def culprit(run: Run) -> ModelFiles | None:
    """The model of the run during which, or just after which, a worker ended."""
    if run.finished.is_set() and time.monotonic() - run.last_progress > _AFTERMATH_SECONDS:
        return None
    return run.job.model


async def files_of(model: ModelFiles) -> object:
    """What changes when the model's files do; None if it cannot be known."""
    try:
        return await asyncio.to_thread(state_of_files, model.path)
    except RuntimeError:  # no thread to look with
        return None


def state_of_files(path: Path) -> object:
    """What changes when a model's files do: their names, sizes and times; None if unknown."""
    found: list[tuple[str, int, int]] = []
    try:
        for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
            status = each.stat()
            found.append((each.as_posix(), status.st_size, status.st_mtime_ns))
            if len(found) >= _MOST_FILES:
                break
    except OSError:
        return None
    return sorted(found)
