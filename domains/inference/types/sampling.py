"""How noise becomes a picture: samplers and what each of them takes, guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import Count, Measure, Value
from domains.limits import default_of


class SigmaSpacing(Enum):
    """How noise levels are spread over the steps."""

    MODEL = "model"  # as the model's own scheduler configuration says
    EVEN = "even"  # those of the timesteps, whatever that configuration says
    KARRAS = "karras"
    EXPONENTIAL = "exponential"
    BETA = "beta"


class TimestepSpacing(Enum):
    """How timesteps are spread over the schedule (arXiv:2305.08891, table 2)."""

    MODEL = "model"  # as the model's own scheduler configuration says
    LEADING = "leading"
    TRAILING = "trailing"
    LINSPACE = "linspace"


class SolverAlgorithm(Enum):
    """What a DPM-Solver integrates; the value is diffusers' name for it."""

    MODEL = "model"  # as the model's own scheduler configuration says, or DPMSOLVER_PP
    DPMSOLVER = "dpmsolver"
    DPMSOLVER_PP = "dpmsolver++"
    SDE_DPMSOLVER = "sde-dpmsolver"
    SDE_DPMSOLVER_PP = "sde-dpmsolver++"


@dataclass(frozen=True)
class SchedulerFacts:
    """What is known about a scheduler; tests hold it against the library's classes.

    `sampler_name` is what other programs call it. `options` are the fields of
    `SchedulerSettings` that it reads, beside the spacings, by their paths ("solver.order");
    all are of one message. `algorithms` are those of a solver. One that `takes_sigmas` can be
    told its noise levels. A `stochastic` one adds fresh noise at every step. `calls_per_step`
    counts UNet calls in a step as the user counts them. One that `reads_samples` works with
    models that predict the picture itself.
    """

    sampler_name: str
    spacings: frozenset[SigmaSpacing] = frozenset(SigmaSpacing)
    timestep_spacings: frozenset[TimestepSpacing] = frozenset(TimestepSpacing)
    options: tuple[str, ...] = ()
    algorithms: frozenset[SolverAlgorithm] = frozenset({SolverAlgorithm.MODEL})
    takes_sigmas: bool = False
    stochastic: bool = False
    calls_per_step: int = 1
    reads_samples: bool = True

    @property
    def options_field(self) -> str:
        """The message of its options ("solver"); empty where it has none."""
        return self.options[0].partition(".")[0] if self.options else ""


_PLAIN = frozenset({SigmaSpacing.MODEL, SigmaSpacing.EVEN})
_OWN_TIMESTEPS = frozenset({TimestepSpacing.MODEL})
_SOLVER = ("solver.order", "solver.lower_order_final")
_DPM_SOLVER = (*_SOLVER, "solver.algorithm")
_CHURN = ("churn.churn", "churn.least_sigma", "churn.greatest_sigma", "churn.noise")
_ANCESTRAL = ("ancestral.eta", "ancestral.noise")


class Scheduler(Enum):
    """The samplers, a row each; the value is the class name in diffusers."""

    facts: SchedulerFacts

    DPM_SOLVER_MULTISTEP = (
        "DPMSolverMultistepScheduler",
        SchedulerFacts("DPM++ 2M", options=_DPM_SOLVER, algorithms=frozenset(SolverAlgorithm)),
    )
    DPM_SOLVER_SINGLESTEP = (
        "DPMSolverSinglestepScheduler",
        SchedulerFacts(
            "DPM++ 2S",
            timestep_spacings=_OWN_TIMESTEPS,
            options=_DPM_SOLVER,
            algorithms=frozenset(SolverAlgorithm) - {SolverAlgorithm.SDE_DPMSOLVER},
        ),
    )
    DDIM = "DDIMScheduler", SchedulerFacts("DDIM", _PLAIN, options=("ddim.eta",))
    EULER_DISCRETE = (
        "EulerDiscreteScheduler",
        SchedulerFacts("Euler", options=_CHURN, takes_sigmas=True),
    )
    EULER_ANCESTRAL_DISCRETE = (
        "EulerAncestralDiscreteScheduler",
        SchedulerFacts(
            "Euler a", _PLAIN, options=_ANCESTRAL, stochastic=True, reads_samples=False
        ),
    )
    KDPM2_DISCRETE = (
        "KDPM2DiscreteScheduler",
        SchedulerFacts("DPM2", calls_per_step=2, reads_samples=False),
    )
    KDPM2_ANCESTRAL_DISCRETE = (
        "KDPM2AncestralDiscreteScheduler",
        SchedulerFacts(
            "DPM2 a",
            options=_ANCESTRAL,
            stochastic=True,
            calls_per_step=2,
            reads_samples=False,
        ),
    )
    HEUN_DISCRETE = "HeunDiscreteScheduler", SchedulerFacts("Heun", calls_per_step=2)
    LMS_DISCRETE = (
        "LMSDiscreteScheduler",
        SchedulerFacts("LMS", options=("linear_multistep.order",)),
    )
    UNIPC_MULTISTEP = (
        "UniPCMultistepScheduler",
        SchedulerFacts("UniPC", options=("solver.order",)),
    )
    DEIS_MULTISTEP = "DEISMultistepScheduler", SchedulerFacts("DEIS", options=_SOLVER)
    LCM = (
        "LCMScheduler",
        SchedulerFacts("LCM", _PLAIN, _OWN_TIMESTEPS, stochastic=True),
    )
    TCD = (
        "TCDScheduler",
        SchedulerFacts(
            "TCD",
            _PLAIN,
            _OWN_TIMESTEPS,
            options=("ancestral.eta",),
            stochastic=True,
        ),
    )

    def __new__(cls, class_name: str, facts: SchedulerFacts) -> Scheduler:
        """A member whose value is the class name alone."""
        member = object.__new__(cls)
        member._value_ = class_name
        member.facts = facts
        return member


class SolverOptions(Value, frozen=True):
    """Options of multistep and singlestep solvers. What is None is as the model's own scheduler
    configuration says, or as the scheduler's class has it."""

    order: Count | None = None
    algorithm: SolverAlgorithm = SolverAlgorithm.MODEL
    lower_order_final: bool | None = None


class ChurnOptions(Value, frozen=True):
    """Noise put in and taken out while stepping (arXiv:2206.00364, algorithm 2), at noise
    levels from `least_sigma` to `greatest_sigma`, without such an end where that is None."""

    churn: Measure = default_of("ChurnOptions.churn")
    least_sigma: Measure = default_of("ChurnOptions.least_sigma")
    greatest_sigma: Measure | None = None
    noise: Measure = default_of("ChurnOptions.noise")


class DdimOptions(Value, frozen=True):
    """`eta` (0 to 1) is the share of fresh noise."""

    eta: Measure = default_of("DdimOptions.eta")


class AncestralOptions(Value, frozen=True):
    """`eta` (0 to 1) is the share of fresh noise; None is 1, with TCD 0.3. `noise` is a factor
    on it."""

    eta: Measure | None = None
    noise: Measure = default_of("AncestralOptions.noise")


class LinearMultistepOptions(Value, frozen=True):
    """`order` counts the steps that the next one is made of."""

    order: Count = int(default_of("LinearMultistepOptions.order"))


OPTIONS: Mapping[str, type[Value]] = {
    "solver": SolverOptions,
    "churn": ChurnOptions,
    "ddim": DdimOptions,
    "ancestral": AncestralOptions,
    "linear_multistep": LinearMultistepOptions,
}
"""Fields of `SchedulerSettings` of which one may be set, and what each holds."""


class SchedulerSettings(Value, frozen=True):
    """Without a `scheduler` it is the model's own. `sigmas` are noise levels, one per step,
    falling; the last step goes to 0."""

    scheduler: Scheduler | None = None
    spacing: SigmaSpacing = SigmaSpacing.MODEL
    timestep_spacing: TimestepSpacing = TimestepSpacing.MODEL
    zero_terminal_snr: bool | None = None
    solver: SolverOptions | None = None
    churn: ChurnOptions | None = None
    ddim: DdimOptions | None = None
    ancestral: AncestralOptions | None = None
    linear_multistep: LinearMultistepOptions | None = None
    sigmas: Annotated[tuple[Measure, ...], Meta(max_length=150)] = ()


class GuidanceSettings(Value, frozen=True):
    """How strongly prompts pull. A `scale` of at most 1 draws without a negative prompt.

    `start` and `end` (0 to 1) are shares of the steps between which it is on.
    """

    scale: Measure = default_of("GuidanceSettings.scale")
    rescale: Measure = default_of("GuidanceSettings.rescale")
    start: Measure = default_of("GuidanceSettings.start")
    end: Measure = default_of("GuidanceSettings.end")

    @property
    def guided(self) -> bool:
        """Whether steps also look at the negative prompt."""
        return self.scale > 1

    def covers(self, step: int, steps: int) -> bool:
        """Whether the step (from 0) of so many lies within `start` and `end`: as a whole, as
        diffusers' pipelines have it for ControlNets.

        Source: arXiv:2404.07724, of an interval of noise levels.
        """
        return step / steps >= self.start and (step + 1) / steps <= self.end

    def guided_steps(self, first: int, last: int, steps: int) -> int:
        """How many steps also look at the negative prompt, from one to before another of so
        many."""
        return sum(self.guided and self.covers(step, steps) for step in range(first, last))
