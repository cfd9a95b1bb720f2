"""What the front says of a schedule before anything is queued is what the engine finds: the
same are refused, and the same are drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from domains.errors import DomainError, FailedPrecondition, InvalidArgument
from domains.inference.backends.handover import schedule
from domains.inference.backends.schedulers import build_scheduler
from domains.inference.core.configuration_rules import check_configurations
from domains.inference.core.refiner_rules import check_refining_model
from domains.inference.core.sampling_rules import check_sampling, check_scheduler
from domains.inference.core.schedule_rules import check_schedules
from domains.inference.core.schedules import DISTILLED
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    ImageToImage,
    Refiner,
    RefinerMode,
    Scheduler,
    SchedulerSettings,
    SdxlSettings,
    SecondPass,
    SigmaSpacing,
    SolverAlgorithm,
    SolverOptions,
    TimestepSpacing,
)
from domains.model.backends.families.schedulers import SCHEDULER
from domains.model.types import Model, PredictionType
from tests.domains.inference.backends.test_finite_schedules import combinations
from tests.domains.inference.conftest import MODEL
from tests.libraries import OLD_DIFFUSERS

# Diffusers would rather be without the first DPM-Solver; it has it still.
pytestmark = pytest.mark.filterwarnings("ignore:.*algorithm_type.*:FutureWarning")

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING = SD | {"timestep_spacing": "leading", "steps_offset": 1}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
# What folders say: Stable Diffusion's and SDXL's, turbo's, NoobAI's, and odd ones.
CONFIGS: tuple[dict[str, Any], ...] = (
    LEADING | {"prediction_type": "epsilon"},
    SD | {"timestep_spacing": "trailing", "prediction_type": "epsilon"},
    SD | {"timestep_spacing": "linspace"},
    SD | ZERO_SNR | {"prediction_type": "v_prediction"},
    SD | ZERO_SNR | {"prediction_type": "epsilon"},
    LEADING | {"prediction_type": "epsilon", "rescale_betas_zero_snr": True},
    LEADING | {"prediction_type": "sample"},
    {},
)
# They work out a thousand levels whenever one is made.
SLOW = (Scheduler.KDPM2_DISCRETE, Scheduler.KDPM2_ANCESTRAL_DISCRETE)
QUICK = [scheduler for scheduler in Scheduler if scheduler not in SLOW]
TRAILING, LINSPACE = TimestepSpacing.TRAILING, TimestepSpacing.LINSPACE
FLAT = SolverOptions(3, SolverAlgorithm.DPMSOLVER)
SDE = SolverOptions(3, SolverAlgorithm.SDE_DPMSOLVER)


def listed(config: Mapping[str, Any], name: str = "emoji") -> Model:
    """A model of the catalogue with that scheduler configuration."""
    predicts = config.get("prediction_type")
    return replace(
        MODEL,
        model_id=name,
        scheduler_config={k: v for k, v in config.items() if not isinstance(v, list)},
        prediction_type=None if predicts is None else PredictionType(predicts),
        zero_terminal_snr=config.get("rescale_betas_zero_snr") is True,
    )


def refused_before(
    settings: GenerationSettings, model: Model, refiner: Model | None = None
) -> list[str]:
    """The fields that the front refuses, or the reason of a model that is at fault."""
    scheduler = settings.scheduler.scheduler
    assert scheduler is not None
    found = [
        *check_sampling(settings, "s"),
        *check_scheduler(settings, scheduler, model, "s"),
        *check_refining_model(settings, scheduler, refiner, model, "s"),
        *check_schedules(settings, scheduler, model, "s", refiner),
    ]
    if found:
        return [each.field for each in found]
    try:
        check_configurations(settings, scheduler, model, refiner)
    except FailedPrecondition as error:
        return [error.reason.value]
    return []


def drawn(
    asked: SchedulerSettings, config: Mapping[str, Any], steps: int, skipped: int = 0
) -> bool:
    """Whether the engine has such a schedule."""
    try:
        build_scheduler(asked, dict(config), steps=steps, skipped=skipped)
    except (InvalidArgument, FailedPrecondition):
        return False
    return True


def disagreements(
    asked: SchedulerSettings, config: Mapping[str, Any], steps: int
) -> Iterator[tuple[object, ...]]:
    settings = GenerationSettings(steps=steps, scheduler=asked)
    found = refused_before(settings, listed(config))
    if bool(found) is drawn(asked, config, steps):
        yield asked, config, steps, found


@pytest.mark.parametrize("scheduler", QUICK)
def test_the_front_and_the_engine_agree(scheduler: Scheduler) -> None:
    """A cut of the whole."""
    every = [(asked, config) for config in CONFIGS for asked in combinations(scheduler)]
    # Some integrate, or look for timesteps, at length.
    slow = scheduler in (Scheduler.HEUN_DISCRETE, Scheduler.LMS_DISCRETE)
    apart = max(1, len(every) // (6 if slow else 24)) | 1
    unlike = [
        found
        for index, (asked, config) in enumerate(every[::apart])
        for found in disagreements(asked, config, 1 + index % 4)
    ]
    assert unlike == []


@pytest.mark.matrix
@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("scheduler", QUICK)
def test_they_agree_on_everything_that_can_be_asked_for(
    scheduler: Scheduler, config: dict[str, Any]
) -> None:
    numbers = [1, 2, 3, 4]
    if scheduler is not Scheduler.LMS_DISCRETE:  # integrates for seconds
        numbers += [50] if scheduler in DISTILLED else [61, 150]
    unlike = [
        found
        for asked in combinations(scheduler)
        for steps in numbers
        for found in disagreements(asked, config, steps)
    ]
    assert unlike == []


@pytest.mark.matrix
@pytest.mark.parametrize("scheduler", SLOW)
def test_the_slow_ones_agree_too(scheduler: Scheduler) -> None:
    every = [(asked, config) for config in CONFIGS for asked in combinations(scheduler)]
    unlike = [
        found
        for index, (asked, config) in enumerate(every[::7])
        for found in disagreements(asked, config, (1, 2, 3, 4, 61)[index % 5])
    ]
    assert unlike == []


# Not among them, as the device alone finds what they rule out: squaredcos_cap_v2 and
# continuous timesteps.
SAID: dict[str, list[Any]] = {
    "algorithm_type": ["deis", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"],
    "beta_schedule": ["linear", "scaled_linear"],
    "disable_corrector": [[], [0]],
    "euler_at_final": [True, False],
    "final_sigmas_type": ["zero", "sigma_min"],
    "interpolation_type": ["linear", "log_linear"],
    "lambda_min_clipped": [float("-inf"), -5.1],
    "lower_order_final": [True, False],
    "num_train_timesteps": [400, 1000, 1001, 2000],
    "original_inference_steps": [1, 4, 50, 100, 2000],
    "predict_x0": [True, False],
    "prediction_type": ["epsilon", "v_prediction", "sample"],
    "rescale_betas_zero_snr": [True, False],
    "shift_terminal": [None, 0.1],
    "solver_order": [1, 2, 3],
    "solver_type": ["bh1", "bh2", "heun", "logrho", "midpoint"],
    "steps_offset": [0, 1, 2, 10, 500, 998, 999, 1000],
    "thresholding": [True, False],
    "timestep_spacing": ["linspace", "leading", "trailing"],
    "use_beta_sigmas": [True],
    "use_dynamic_shifting": [True],
    "use_exponential_sigmas": [True],
    "use_flow_sigmas": [True],
    "use_karras_sigmas": [True],
    "use_lu_lambdas": [True],
}


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(8))
def test_they_agree_whatever_a_model_says(seed: int) -> None:
    chance = random.Random(seed)
    asked = {scheduler: list(combinations(scheduler)) for scheduler in QUICK}
    unlike: list[object] = []
    for _ in range(500):
        scheduler = chance.choice(QUICK)
        config = dict(SD)
        for key in chance.sample(sorted(SAID), chance.randint(1, 5)):
            config[key] = chance.choice(SAID[key])
        if SCHEDULER.problem(config):
            continue
        own = SchedulerSettings(scheduler)
        wanted = own if chance.random() < 0.6 else chance.choice(asked[scheduler])
        steps = chance.choice([1, 2, 3, 4, 5, 7, 20, 25])
        unlike += disagreements(wanted, config, steps)
    assert unlike == []


MULTISTEP, DDIM, LCM = Scheduler.DPM_SOLVER_MULTISTEP, Scheduler.DDIM, Scheduler.LCM
EULER, UNIPC = Scheduler.EULER_DISCRETE, Scheduler.UNIPC_MULTISTEP


@pytest.mark.parametrize(
    ("asked", "config", "steps", "field"),
    [
        pytest.param(
            SchedulerSettings(EULER), CONFIGS[1], 61, "s.steps", id="the model's own trailing"
        ),
        pytest.param(
            SchedulerSettings(EULER, timestep_spacing=TRAILING),
            LEADING | {"num_train_timesteps": 1100},
            61,
            "",
            id="another training",
        ),
        pytest.param(
            SchedulerSettings(EULER, SigmaSpacing.KARRAS, TRAILING),
            LEADING,
            61,
            "",
            id="noise levels of their own",
        ),
        pytest.param(
            SchedulerSettings(DDIM, timestep_spacing=LINSPACE, zero_terminal_snr=True),
            LEADING,
            2,
            "s.scheduler.zero_terminal_snr",
            id="linspace reaches the end",
        ),
        pytest.param(
            SchedulerSettings(DDIM, timestep_spacing=LINSPACE, zero_terminal_snr=True),
            LEADING,
            1,
            "",
            id="one step does not",
        ),
        pytest.param(
            SchedulerSettings(DDIM),
            CONFIGS[4],
            4,
            "s.scheduler.zero_terminal_snr",
            id="the model's own noise alone",
        ),
        pytest.param(
            SchedulerSettings(LCM),
            LEADING | {"original_inference_steps": 4},
            5,
            "s.steps",
            id="fewer distilled steps",
        ),
        pytest.param(
            SchedulerSettings(MULTISTEP, solver=SDE),
            LEADING,
            5,
            "s.scheduler.solver.order",
            id="no third order",
        ),
        pytest.param(SchedulerSettings(MULTISTEP, solver=SDE), LEADING, 4, "", id="not needed"),
        pytest.param(
            SchedulerSettings(MULTISTEP, SigmaSpacing.KARRAS, solver=FLAT),
            LEADING,
            15,
            "s.scheduler.solver.order",
            id="two levels that are one in the end",
        ),
        pytest.param(
            SchedulerSettings(MULTISTEP, SigmaSpacing.KARRAS, solver=FLAT),
            LEADING,
            14,
            "",
            id="of a lower order in the end",
        ),
        pytest.param(
            SchedulerSettings(MULTISTEP),
            LEADING | {"algorithm_type": "dpmsolver"},
            4,
            "MODEL_CONFIG_INVALID",
            id="no step to zero",
        ),
        pytest.param(
            SchedulerSettings(Scheduler.DPM_SOLVER_SINGLESTEP),
            LEADING | {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"},
            4,
            "MODEL_CONFIG_INVALID",
            id="an algorithm of another class",
        ),
        pytest.param(
            SchedulerSettings(Scheduler.DEIS_MULTISTEP),
            LEADING | {"algorithm_type": "sde-dpmsolver++"},
            4,
            "MODEL_CONFIG_INVALID",
            id="an algorithm that DEIS lacks",
        ),
        pytest.param(
            SchedulerSettings(UNIPC),
            LEADING | {"use_dynamic_shifting": True},
            4,
            "MODEL_CONFIG_INVALID",
            id="flow's shift",
            marks=pytest.mark.skipif(
                OLD_DIFFUSERS, reason="this diffusers draws with it, as if it were not said"
            ),
        ),
        pytest.param(
            SchedulerSettings(UNIPC),
            LEADING | {"predict_x0": False},
            4,
            "MODEL_CONFIG_INVALID",
            id="noise predicted to the end",
        ),
        pytest.param(
            SchedulerSettings(MULTISTEP),
            LEADING | {"use_flow_sigmas": True, "use_karras_sigmas": True},
            4,
            "MODEL_CONFIG_INVALID",
            id="two spacings",
        ),
        pytest.param(
            SchedulerSettings(LCM),
            LEADING | {"original_inference_steps": 2000},
            4,
            "MODEL_CONFIG_INVALID",
            id="more distilled than trained",
        ),
        pytest.param(
            SchedulerSettings(DDIM),
            LEADING | {"steps_offset": 10},
            125,
            "MODEL_CONFIG_INVALID",
            id="beyond the last timestep",
        ),
        pytest.param(
            SchedulerSettings(UNIPC),
            LEADING | {"steps_offset": 500},
            4,
            "MODEL_CONFIG_INVALID",
            id="two levels that are one",
        ),
    ],
)
def test_each_kind_of_refusal(
    asked: SchedulerSettings, config: dict[str, Any], steps: int, field: str
) -> None:
    settings = GenerationSettings(steps=steps, scheduler=asked)
    assert refused_before(settings, listed(config)) == ([field] if field else [])
    assert drawn(asked, config, steps) is not bool(field)
    assert SCHEDULER.problem(config) == ""


def test_steps_that_are_left_out_are_not_looked_at() -> None:
    asked = SchedulerSettings(DDIM)
    begun = GenerationSettings(
        steps=4, scheduler=asked, image_to_image=ImageToImage(strength=0.5)
    )
    assert refused_before(begun, listed(CONFIGS[4])) == []
    assert drawn(asked, CONFIGS[4], 4, skipped=2)
    again = structs.replace(begun, second_pass=SecondPass(strength=1.0))
    assert refused_before(again, listed(CONFIGS[4])) == ["s.scheduler.zero_terminal_snr"]


@pytest.mark.parametrize("mode", RefinerMode)
@pytest.mark.parametrize(
    ("scheduler", "own", "refiners", "steps"),
    [
        (EULER, LEADING, CONFIGS[1], 61),
        (EULER, CONFIGS[1], LEADING, 61),
        (LCM, LEADING, LEADING | {"original_inference_steps": 4}, 20),
        (DDIM, CONFIGS[3], CONFIGS[4], 20),
        (UNIPC, LEADING, LEADING | {"predict_x0": False}, 20),
    ],
)
def test_a_refiners_schedule(
    mode: RefinerMode,
    scheduler: Scheduler,
    own: dict[str, Any],
    refiners: dict[str, Any],
    steps: int,
) -> None:
    """It has the noise levels of the model before it, or its own where it begins anew."""
    part = Refiner("fine", mode=mode, switch_at=0.5, steps=steps, guidance=GuidanceSettings())
    settings = GenerationSettings(
        steps=10,
        scheduler=SchedulerSettings(scheduler),
        sdxl=SdxlSettings(refiner=part),
    )
    found = refused_before(settings, listed(own), listed(refiners, "fine"))
    if found:
        with pytest.raises(DomainError):
            schedule(settings, own, refiners)
    else:
        schedule(settings, own, refiners)
