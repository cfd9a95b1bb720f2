"""What follows from a worker's end: for its device, for its model, for what it worked on."""

from __future__ import annotations

import time
from typing import Any

import structlog

from domains.device.types import DeviceState
from domains.session.jobs import Job
from server.worker.front.death import Death
from server.worker.front.model_bars import (
    ModelBars,
    WorkerCrashRepeated,
    culprit,
    files_of,
)
from server.worker.front.restart import RestartPolicy, RestartRules, Verdict
from server.worker.front.runs import Run

# For a look at a model's files: somebody waits to hear of a death, and of no work before its
# model is looked at.
_DEATH_LOOK_SECONDS, _WORK_LOOK_SECONDS = 1.0, 5.0

_log = structlog.get_logger("deviceops.worker")


def state_after(death: Death, verdict: Verdict) -> DeviceState:
    """How a device is until its next worker is ready."""
    if death.gone:
        return DeviceState.LOST
    return DeviceState.QUARANTINED if verdict.quarantined else DeviceState.RECOVERING


def unjudged(state: DeviceState, explanation: str) -> tuple[DeviceState, str]:
    """How a device is told whose worker has ended, until that is judged."""
    if state is DeviceState.READY:
        return DeviceState.RECOVERING, "The worker has ended."
    return state, explanation


class Judge:
    """Judges one device's deaths.

    Args:
        device_id: Whose.
        rules: What has which consequences.
    """

    def __init__(self, device_id: str, rules: RestartRules) -> None:
        self._log = _log.bind(device_id=device_id)
        self._policy = RestartPolicy(rules, time.monotonic)
        self._bars = ModelBars(device_id, rules, time.monotonic)
        self._lack = self._lack_event = ""

    async def judge(
        self, death: Death, run: Run | None
    ) -> tuple[Verdict, WorkerCrashRepeated | None]:
        """When to start again, and what the run ends with if not with a lost worker.

        Args:
            death: The worker's.
            run: What it worked on last.
        """
        if death.starved or death.gone:
            if death.explanation != self._lack:  # once for as long as it lasts
                self._lack_event = "worker_starved" if death.starved else "worker_node_lost"
                self._log.error(self._lack_event, why=death.explanation)
            self._lack = death.explanation
            return self._policy.starved(), None
        if death.deliberate:
            return Verdict(0.0, quarantined=False), None
        model = None if run is None else culprit(run)
        if model is None:
            return self._policy.died(), None
        verdict = self._policy.died(model.model_id)
        files = await files_of(model, _DEATH_LOOK_SECONDS)
        repeated = self._bars.died(model, death.explanation, files)
        if repeated is not None:
            barred = self._bars.barred(model)
            self._log.warning(
                "model_barred" if barred else "model_ends_workers", **repeated.metadata
            )
        return verdict, repeated

    async def check(self, job: Job[Any]) -> None:
        """Refuse a job whose model is kept off the device.

        Raises:
            ModelBarred: It is.
        """
        model = job.model
        if model is not None and self._bars.barred(model):
            self._bars.check(model, await files_of(model, _WORK_LOOK_SECONDS))

    def started(self) -> None:
        """A worker said hello."""
        if self._lack:
            self._log.info(f"{self._lack_event}_no_more")
        self._lack = ""
        self._policy.started()

    def worked(self, run: Run) -> None:
        """A run came to its end and its worker lives."""
        self._policy.worked()
        if run.succeeded and run.job.model is not None:
            self._bars.worked(run.job.model)

    def forgive(self) -> None:
        """Forget everything: an operator asks for a fresh start."""
        self._policy.forgive()
        self._bars.forgive()
