"""Going over to a profile, with the cost of a step measured before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domains.device.jobs import OptimizationJob, OptimizationReport
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.profiles import (
    PROFILES,
    ProfileSettings,
    changes,
    describe,
)
from domains.inference.backends.step_trial import StepCost, StepTrial
from domains.inference.types import PrecisionMode
from domains.session.jobs import JobContext
from domains.values import ByteFigure

_UNMEASURED = ByteFigure.unknown("nothing was measured: no model was named")


@dataclass
class Optimization:
    """From the settings `before` to those of the profile that `job` names.

    `apply` has the engine and its model run with settings from then on.
    """

    job: OptimizationJob
    before: ProfileSettings
    apply: Callable[[ProfileSettings], None]
    context: JobContext

    def run(
        self,
        held: Callable[[], LoadedModel | None],
        loaded: Callable[[PrecisionMode], LoadedModel],
    ) -> OptimizationReport:
        """Apply the profile; after an error the settings are those from before.

        Args:
            held: Tells the model that is loaded already.
            loaded: Has the model of `job` loaded for a precision.

        Raises:
            Exception: As torch raises it; DomainError as `Engine.optimize`.
        """
        settings = PROFILES[self.job.profile]
        if self.job.place is None:
            return self._unmeasured(held(), settings)
        model = loaded(self.before.open_precision)
        cost_before = self._cost(model)
        described = describe(self.before, model)
        del model
        try:
            self.apply(settings)
            model = loaded(settings.open_precision)
            self._settle_code(model)
            cost = self._cost(model)
        except BaseException:
            self.apply(self.before)
            raise
        return OptimizationReport(
            profile=self.job.profile,
            changes=changes(described, describe(settings, model)),
            step_before=cost_before.seconds,
            step_after=cost.seconds,
            peak_memory_before=cost_before.peak,
            peak_memory_after=cost.peak,
        )

    def _unmeasured(
        self, held: LoadedModel | None, settings: ProfileSettings
    ) -> OptimizationReport:
        described = describe(self.before, held)
        self.apply(settings)
        return OptimizationReport(
            profile=self.job.profile,
            changes=changes(described, describe(settings, held)),
            step_before=0.0,
            step_after=0.0,
            peak_memory_before=_UNMEASURED,
            peak_memory_after=_UNMEASURED,
        )

    def _cost(self, model: LoadedModel) -> StepCost:
        trial = StepTrial(model)
        trial.settle_numerics(self.context)
        return trial.measure(self.context)

    def _settle_code(self, model: LoadedModel) -> None:
        """Have it compiled for pictures of its native size, where that may be and pays.

        Who asks for a profile waits for that; others have it while they go on drawing.
        """
        if model.code is None:
            return
        trial = StepTrial(model)
        trial.settle_numerics(self.context)
        model.use_code()
        trial.measure(self.context, steps=1)
        model.code.settled(self.context.check_stop)
        model.use_code()
