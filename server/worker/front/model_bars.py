"""Models that end a device's workers, and how long they are kept off it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from domains.errors import FailedPrecondition, Internal, Reason
from domains.own_threads import in_own_thread
from domains.session.jobs import ModelFiles
from server.worker.front.restart import RestartRules
from server.worker.front.runs import Run

# For how long after a run its worker's end is still blamed on it.
_AFTERMATH_SECONDS = 5.0
_MOST_FILES = 1_000


class ModelBarred(FailedPrecondition):
    """The model, or it and those beside it together, ended workers of this device again and
    again."""

    def __init__(self, model: ModelFiles, device_id: str, why: str, seconds: float) -> None:
        super().__init__(
            f"Model {_called(model)} ended the worker of device {device_id} again and again and"
            f" is kept off it for {seconds:.0f} s more, or until its files change or"
            f" RestartWorker is called. {why}",
            reason=Reason.MODEL_BARRED,
            metadata={"model_id": model.model_id, "device_id": device_id},
            retry_after=seconds,
        )


class WorkerCrashRepeated(Internal):
    """Work with the same model ended its worker a second time."""

    def __init__(self, model: ModelFiles, device_id: str, deaths: int, why: str) -> None:
        super().__init__(
            f"Work with model {_called(model)} ended the worker of device {device_id} {deaths}"
            f" times within minutes; do not try it again as it is. {why}",
            reason=Reason.WORKER_CRASH_REPEATED,
            metadata={
                "model_id": model.model_id,
                "device_id": device_id,
                "deaths": str(deaths),
            },
        )


def _called(model: ModelFiles) -> str:
    """Its name and those beside it."""
    beside = ", ".join(repr(each.model_id) for each in model.beside)
    return f"{model.model_id!r} together with {beside}" if beside else repr(model.model_id)


Files = Mapping[Path, object]
"""What changes when the files of models do, by the model's place."""


@dataclass
class _Suspect:
    """Models that cost workers together: which, when, of what last, and how their files were
    then."""

    model: ModelFiles
    deaths: deque[float] = field(default_factory=deque)
    barred_until: float = 0.0
    barred_before: bool = False
    why: str = ""
    files: Files = field(default_factory=dict)


class ModelBars:
    """Counts one device's deaths by model. After a bar one more death brings it back.

    Work with several models blames all of them together, as nobody knows which it was: neither
    a checkpoint nor a LoRA is kept off for what the other may have done. What is barred alone
    is so in any company.

    Args:
        device_id: Whose deaths.
        rules: Limits and times.
        clock: Monotonic seconds.
    """

    def __init__(self, device_id: str, rules: RestartRules, clock: Callable[[], float]) -> None:
        self._device_id = device_id
        self._rules = rules
        self._clock = clock
        self._suspects: dict[frozenset[Path], _Suspect] = {}

    def died(self, model: ModelFiles, why: str, files: Files) -> WorkerCrashRepeated | None:
        """Count a death; what the work ends with, unless it may be tried again.

        Args:
            model: What the worker worked with.
            why: A sentence.
            files: As `files_of` has them.
        """
        rules, now = self._rules, self._clock()
        suspect = self._suspects.setdefault(model.paths, _Suspect(model))
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
        return WorkerCrashRepeated(model, self._device_id, deaths, why)

    def check(self, model: ModelFiles, files: Files) -> None:
        """Refuse a model that is barred; one whose files changed is so no longer.

        Raises:
            ModelBarred: It is, or one beside it, or some of them together.
        """
        for suspect in self._among(model):
            if suspect.barred_until <= self._clock():
                continue
            if suspect.files != {path: files.get(path) for path in suspect.files}:
                del self._suspects[suspect.model.paths]
                continue
            left = suspect.barred_until - self._clock()
            raise ModelBarred(suspect.model, self._device_id, suspect.why, left)

    def barred(self, model: ModelFiles) -> bool:
        """Whether it is kept off the device, unless files changed."""
        return any(suspect.barred_until > self._clock() for suspect in self._among(model))

    def _among(self, model: ModelFiles) -> list[_Suspect]:
        """Suspects that are all there when the model works with those beside it."""
        paths = model.paths
        return [suspect for known, suspect in self._suspects.items() if known <= paths]

    def worked(self, model: ModelFiles) -> None:
        """Work with the model came to its end: after a bar it is trusted again.

        Deaths within the window still count: with some requests it works, with others not.
        """
        for suspect in self._among(model):
            if suspect.barred_until <= self._clock():
                suspect.barred_before = False

    def forgive(self) -> None:
        """Forget everything: an operator asks for a fresh start."""
        self._suspects.clear()


def culprit(run: Run) -> ModelFiles | None:
    """The model of the run during which, or just after which, a worker ended."""
    if run.finished.is_set() and time.monotonic() - run.last_progress > _AFTERMATH_SECONDS:
        return None
    return run.job.model


async def files_of(model: ModelFiles, patience: float) -> Files:
    """What changes when the files of the model and those beside it do, by their places; None
    where the disk does not answer for `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            return await in_own_thread(states_of, model)
    except (TimeoutError, RuntimeError):  # or there is no thread to look with
        return dict.fromkeys(model.paths)


def states_of(model: ModelFiles) -> Files:
    """The `state_of_files` of a model and of those beside it."""
    return {path: state_of_files(path) for path in model.paths}


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
