"""What samplers, their options and guidance refuse, by field; and what they take."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from deviceops.v1 import sampling_pb2
from domains.errors import Reason
from domains.inference.convert.sampling import scheduler_capability
from domains.inference.core.resolution import effort_of, resolve
from domains.inference.core.sampling_rules import check_scheduler
from domains.inference.core.validation import check_settings
from domains.inference.types import (
    OPTIONS,
    AncestralOptions,
    ChurnOptions,
    ConditioningPoint,
    ConditioningSize,
    GenerationSettings,
    GuidanceSettings,
    LinearMultistepOptions,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SigmaSpacing,
    SizeConditioning,
    SolverAlgorithm,
    SolverOptions,
    TimestepSpacing,
)
from domains.session.types import Phase
from tests.domains.inference.conftest import MODEL

RANGE, CONFLICT = Reason.FIELD_OUT_OF_RANGE, Reason.FIELDS_CONFLICT
NAN, INFINITY = float("nan"), float("inf")


def broken(settings: GenerationSettings, scheduler: Scheduler | None = None) -> list[Any]:
    found = check_settings(settings, "s")
    if scheduler is not None:
        found += check_scheduler(settings, scheduler, MODEL, "s")
    return [(each.field.removeprefix("s."), each.reason) for each in found]


def sampled(**asked: Any) -> GenerationSettings:
    return GenerationSettings(scheduler=SchedulerSettings(**asked))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (sampled(solver=SolverOptions(4)), ("scheduler.solver.order", RANGE)),
        (sampled(churn=ChurnOptions(101)), ("scheduler.churn.churn", RANGE)),
        (sampled(churn=ChurnOptions(NAN)), ("scheduler.churn.churn", Reason.NON_FINITE_NUMBER)),
        (sampled(churn=ChurnOptions(1, 5, 4)), ("scheduler.churn.greatest_sigma", RANGE)),
        (sampled(ancestral=AncestralOptions(1.1)), ("scheduler.ancestral.eta", RANGE)),
        (
            sampled(linear_multistep=LinearMultistepOptions(0)),
            ("scheduler.linear_multistep.order", RANGE),
        ),
        (
            GenerationSettings(guidance=GuidanceSettings(start=0.6, end=0.5)),
            ("guidance.end", RANGE),
        ),
        (GenerationSettings(guidance=GuidanceSettings(start=-0.1)), ("guidance.start", RANGE)),
        (
            GenerationSettings(guidance=GuidanceSettings(end=INFINITY)),
            ("guidance.end", Reason.NON_FINITE_NUMBER),
        ),
        (
            GenerationSettings(
                sdxl=SdxlSettings(
                    size=SizeConditioning(original_size=ConditioningSize(16_385, 1))
                )
            ),
            ("sdxl.size.original_size.width", Reason.DIMENSIONS_INVALID),
        ),
        (
            GenerationSettings(
                sdxl=SdxlSettings(
                    negative_size=SizeConditioning(crop_top_left=ConditioningPoint(0, -1))
                )
            ),
            ("sdxl.negative_size.crop_top_left.top", RANGE),
        ),
    ],
)
def test_numbers_out_of_range(settings: GenerationSettings, expected: object) -> None:
    assert broken(settings) == [expected]


@pytest.mark.parametrize(
    ("sigmas", "steps", "changes", "expected"),
    [
        ((3.0, 2.0, 1.0), 3, {}, []),
        ((1000.0,), 1, {}, []),
        ((3.0, 2.0), 3, {}, [("scheduler.sigmas", CONFLICT)]),
        ((3.0, 3.0), 2, {}, [("scheduler.sigmas[1]", RANGE)]),
        ((1.0, 3.0, 4.0), 3, {}, [(f"scheduler.sigmas[{k}]", RANGE) for k in (1, 2)]),
        ((3.0, 0.0), 2, {}, [("scheduler.sigmas[1]", RANGE)]),
        ((1001.0, 1.0), 2, {}, [("scheduler.sigmas[0]", RANGE)]),
        ((3.0, NAN), 2, {}, [("scheduler.sigmas[1]", Reason.NON_FINITE_NUMBER)]),
        (
            tuple(range(151, 0, -1)),
            150,
            {},
            [("scheduler.sigmas", Reason.TOO_MANY_ELEMENTS)],
        ),
        (
            (3.0, 2.0),
            2,
            {
                "spacing": SigmaSpacing.EVEN,
                "timestep_spacing": TimestepSpacing.TRAILING,
            },
            [("scheduler.spacing", CONFLICT), ("scheduler.timestep_spacing", CONFLICT)],
        ),
    ],
)
def test_noise_levels_of_ones_own(
    sigmas: Any, steps: int, changes: dict[str, Any], expected: object
) -> None:
    asked = replace(sampled(sigmas=sigmas, **changes), steps=steps)
    assert broken(asked, Scheduler.EULER_DISCRETE) == expected


# An option of each kind, by the field that it is.
ASKED: dict[str, Any] = {
    "solver.order": SolverOptions(order=2),
    "solver.algorithm": SolverOptions(algorithm=SolverAlgorithm.DPMSOLVER_PP),
    "solver.lower_order_final": SolverOptions(lower_order_final=True),
    "churn.churn": ChurnOptions(1.0),
    "ddim.eta": OPTIONS["ddim"](),
    "ancestral.eta": AncestralOptions(0.5),
    "ancestral.noise": AncestralOptions(noise=0.5),
    "linear_multistep.order": LinearMultistepOptions(2),
}


@pytest.mark.parametrize("option", ASKED)
@pytest.mark.parametrize("scheduler", Scheduler)
def test_an_option_is_refused_exactly_where_the_scheduler_does_not_have_it(
    scheduler: Scheduler, option: str
) -> None:
    name = option.split(".")[0]
    found = broken(sampled(**{name: ASKED[option]}), scheduler)
    if option in scheduler.facts.options:
        assert found == []
    else:
        field = option if name == scheduler.facts.options_field else name
        assert found == [(f"scheduler.{field}", CONFLICT)]


@pytest.mark.parametrize("scheduler", Scheduler)
def test_spacings_and_algorithms_are_refused_exactly_where_they_are_not_there(
    scheduler: Scheduler,
) -> None:
    facts = scheduler.facts
    for timesteps in TimestepSpacing:
        refused = [] if timesteps in facts.timestep_spacings else ["scheduler.timestep_spacing"]
        found = broken(sampled(timestep_spacing=timesteps), scheduler)
        assert [field for field, _ in found] == refused
    if "solver.algorithm" in facts.options:
        for algorithm in SolverAlgorithm:
            solver = SolverOptions(algorithm=algorithm)
            found = broken(sampled(solver=solver), scheduler)
            fits = algorithm in facts.algorithms
            assert found == ([] if fits else [("scheduler.solver.algorithm", CONFLICT)])
    found = broken(replace(sampled(sigmas=(2.0, 1.0)), steps=2), scheduler)
    assert found == ([] if facts.takes_sigmas else [("scheduler.sigmas", CONFLICT)])


def test_capabilities_tell_of_each_scheduler_what_it_takes() -> None:
    told = scheduler_capability(Scheduler.DPM_SOLVER_SINGLESTEP, 150)
    assert (told.options, told.most_steps, told.takes_sigmas) == ("solver", 150, False)
    assert list(told.option_fields) == list(Scheduler.DPM_SOLVER_SINGLESTEP.facts.options)
    assert not told.timestep_spacings
    assert sampling_pb2.SOLVER_ALGORITHM_SDE_DPMSOLVER not in told.algorithms
    assert len(told.algorithms) == 3
    euler = scheduler_capability(Scheduler.EULER_DISCRETE, 150)
    assert euler.takes_sigmas
    assert len(euler.timestep_spacings) == 3


@pytest.mark.parametrize(
    ("guidance", "steps", "on"),
    [
        (GuidanceSettings(), 4, [0, 1, 2, 3]),
        (GuidanceSettings(start=0.25, end=0.75), 4, [1, 2]),
        (GuidanceSettings(start=0.26, end=0.74), 4, []),
        (GuidanceSettings(end=0.5), 5, [0, 1]),
        (GuidanceSettings(start=0.3), 10, [3, 4, 5, 6, 7, 8, 9]),
        (GuidanceSettings(end=0), 3, []),
        (GuidanceSettings(1.0, start=0.5), 4, []),
    ],
)
def test_guidance_is_on_in_whole_steps_and_costs_what_it_computes(
    guidance: GuidanceSettings, steps: int, on: list[int]
) -> None:
    if guidance.guided:
        assert [step for step in range(steps) if guidance.covers(step, steps)] == on
    assert guidance.guided_steps(0, steps, steps) == len(on)
    asked = GenerationSettings(guidance=guidance, steps=steps, seed=1)
    effort = effort_of(resolve(asked, MODEL, lambda: 1))
    alone = replace(asked, guidance=GuidanceSettings(0))
    half = effort_of(resolve(alone, MODEL, lambda: 1))
    share = effort.amounts[Phase.DENOISING] / half.amounts[Phase.DENOISING]
    assert share == pytest.approx(1 + len(on) / steps)
