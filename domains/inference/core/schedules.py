"""The schedules that a generation goes through, and what the samplers make of a model's own
configuration: enough of diffusers' rules to know where a schedule begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domains.inference.core.later_parts import own_steps
from domains.inference.types import (
    GenerationSettings,
    RefinerMode,
    Scheduler,
    SchedulerSettings,
    SigmaSpacing,
    SolverAlgorithm,
    SolverOptions,
    TimestepSpacing,
    steps_by_strength,
)
from domains.limits import LIMITS
from domains.model.types import Model, PredictionType

_TRAINED_TIMESTEPS = 1000
DISTILLED = frozenset({Scheduler.LCM, Scheduler.TCD})
"""They take their steps from those of a schedule that models are distilled on."""
_DISTILLED_TIMESTEPS = 50
# Where a configuration does not say.
_LEADING_BY_DEFAULT = frozenset({Scheduler.DDIM})
DPM_SOLVERS = frozenset({Scheduler.DPM_SOLVER_MULTISTEP, Scheduler.DPM_SOLVER_SINGLESTEP})
SDE = SolverAlgorithm.SDE_DPMSOLVER.value
NEVER_AT_ZERO = frozenset({SolverAlgorithm.DPMSOLVER.value, SDE})
"""Their formulas have no step to a noise level of 0; where one is asked for, none is taken."""
FLOW = "use_flow_sigmas"
# Their timesteps are one of a schedule that has one more.
_ONE_MORE = frozenset(
    {Scheduler.DPM_SOLVER_MULTISTEP, Scheduler.UNIPC_MULTISTEP, Scheduler.DEIS_MULTISTEP}
)
_LMS_ORDER = 4
_SWITCHES = {
    SigmaSpacing.KARRAS: "use_karras_sigmas",
    SigmaSpacing.EXPONENTIAL: "use_exponential_sigmas",
    SigmaSpacing.BETA: "use_beta_sigmas",
}
_OTHER_SWITCHES = {
    "use_lu_lambdas": DPM_SOLVERS,
    FLOW: DPM_SOLVERS | {Scheduler.UNIPC_MULTISTEP, Scheduler.DEIS_MULTISTEP},
}


@dataclass(frozen=True)
class Schedule:
    """One schedule of a request.

    Attributes:
        field: Where its steps are set, below the settings.
        steps: All of its steps, of which the first `skipped` are left out.
        skipped: How many.
        model: Whose configuration it has.
        prediction: What the model predicts that draws with it.
        asked: What the request asks for.
        scheduler: The sampler.
    """

    field: str
    steps: int
    skipped: int
    model: Model
    prediction: PredictionType | None
    asked: SchedulerSettings
    scheduler: Scheduler

    @property
    def trained(self) -> int:
        """Timesteps of the training."""
        return self.number("num_train_timesteps", _TRAINED_TIMESTEPS)

    @property
    def distilled(self) -> int:
        """Timesteps of the schedule that it takes steps from, where it is of `DISTILLED`."""
        return _distilled(self.model)

    @property
    def spacing(self) -> TimestepSpacing:
        """How its timesteps are spread; MODEL where the sampler has but one way, or where they
        follow from noise levels."""
        facts = self.scheduler.facts
        if TimestepSpacing.TRAILING not in facts.timestep_spacings or self._by_sigmas:
            return TimestepSpacing.MODEL
        if self.asked.timestep_spacing is not TimestepSpacing.MODEL:
            return self.asked.timestep_spacing
        usual = "leading" if self.scheduler in _LEADING_BY_DEFAULT else "linspace"
        return TimestepSpacing(self.said("timestep_spacing", usual))

    @property
    def first(self) -> int | None:
        """The first timestep, before any is left out; None where that does not matter."""
        last = self.trained - 1
        if self.scheduler in DISTILLED:
            return self.distilled * (self.trained // self.distilled) - 1
        match self.spacing:
            case TimestepSpacing.TRAILING:
                return last
            case TimestepSpacing.LINSPACE:
                return last if self.steps > 1 else 0
            case TimestepSpacing.LEADING:
                return self.leading[0]
        return None

    @property
    def leading(self) -> tuple[int, ...]:
        """Its timesteps where they are spread LEADING."""
        parts = self.steps + (self.scheduler in _ONE_MORE)
        apart, offset = self.trained // parts, self.number("steps_offset", 0)
        if self.scheduler in _ONE_MORE:
            offset += apart
        return tuple(index * apart + offset for index in reversed(range(self.steps)))

    @property
    def ends_in_noise(self) -> bool:
        """Whether nothing is left of the picture in the last timestep."""
        asked = self.asked.zero_terminal_snr
        return self.model.zero_terminal_snr if asked is None else asked

    @property
    def switches(self) -> tuple[str, ...]:
        """Spacings of noise levels that the sampler has and that are on."""
        asked, facts = self.asked.spacing, self.scheduler.facts
        if self.asked.sigmas or asked is SigmaSpacing.EVEN:
            return ()
        if asked is not SigmaSpacing.MODEL:
            return (_SWITCHES[asked],)
        own = [key for spacing, key in _SWITCHES.items() if spacing in facts.spacings]
        own += [key for key, those in _OTHER_SWITCHES.items() if self.scheduler in those]
        return tuple(key for key in own if self.said(key, False) is True)

    @property
    def order(self) -> int:
        """Of a solver."""
        several, solver = self.asked.linear_multistep, self.asked.solver
        if self.scheduler is Scheduler.LMS_DISCRETE:
            return _LMS_ORDER if several is None else several.order
        if solver is not None and solver.order is not None:
            return solver.order
        return self.number("solver_order", 2)

    @property
    def asks_for_algorithm(self) -> bool:
        """Whether a solver's algorithm is not the model's own."""
        solver = self.asked.solver or SolverOptions()
        return solver.algorithm is not SolverAlgorithm.MODEL

    @property
    def algorithm(self) -> str:
        """What a DPM-Solver or DEIS integrates, as diffusers calls it."""
        if self.asked.solver is not None and self.asks_for_algorithm:
            return self.asked.solver.algorithm.value
        usual = "deis" if self.scheduler is Scheduler.DEIS_MULTISTEP else "dpmsolver++"
        said = str(self.said("algorithm_type", usual))
        # DEIS writes its own, which a DPM-Solver takes for its best.
        return "dpmsolver++" if said == "deis" and self.scheduler in DPM_SOLVERS else said

    @property
    def ends_at_zero(self) -> bool:
        """Whether a solver's last step goes to a noise level of 0."""
        if self.asks_for_algorithm and self.algorithm in NEVER_AT_ZERO:
            return False
        return self.said("final_sigmas_type", "zero") == "zero"

    @property
    def _by_sigmas(self) -> bool:
        return bool(self.asked.sigmas or self.switches)

    def said(self, key: str, usual: str | float | None) -> str | float | None:
        """What the model's configuration says, or what is usual."""
        return self.model.scheduler_config.get(key, usual)

    def number(self, key: str, usual: int) -> int:
        """The same of a whole number."""
        return _number(self.model, key, usual)


def most_steps(scheduler: Scheduler, model: Model) -> int:
    """How many steps a sampler does with a model, of those that may be asked for."""
    most = int(LIMITS["GenerationSettings.steps"].maximum or 0)
    return min(most, _distilled(model)) if scheduler in DISTILLED else most


def schedules_of(
    settings: GenerationSettings, scheduler: Scheduler, model: Model, refiner: Model | None
) -> Iterator[Schedule]:
    """Each schedule of a request: of its passes, and of the refiner that finishes the last."""
    asked, again, part = settings.scheduler, settings.second_pass, settings.refiner
    predicts, field, steps = model.prediction_type, "steps", settings.steps
    if steps < 1:
        return
    yield Schedule(field, steps, settings.skipped_steps, model, predicts, asked, scheduler)
    if again is not None:
        field = field if again.steps is None else "second_pass.steps"
        steps = own_steps(again, settings)
        skipped = steps - steps_by_strength(steps, again.strength)
        yield Schedule(field, steps, skipped, model, predicts, asked, scheduler)
    if part is None or refiner is None:
        return
    field = field if part.steps is None else "sdxl.refiner.steps"
    steps, predicts = own_steps(part, settings), refiner.prediction_type
    if part.mode is RefinerMode.HANDOVER:
        # It goes on with the noise levels of the model before it.
        yield Schedule(field, steps, 0, model, predicts, asked, scheduler)
    else:
        skipped = steps - steps_by_strength(steps, part.strength)
        yield Schedule(field, steps, skipped, refiner, predicts, asked, scheduler)


def _distilled(model: Model) -> int:
    return _number(model, "original_inference_steps", _DISTILLED_TIMESTEPS)


def _number(model: Model, key: str, usual: int) -> int:
    said = model.scheduler_config.get(key, usual)
    return said if isinstance(said, int) else usual
