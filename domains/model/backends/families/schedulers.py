"""What a scheduler's configuration may say, whichever of the schedulers reads it.

One table for all: a request may draw with another scheduler than the model's own, which
then reads the keys that it knows. A word that one class has and another does not is known
here; that the two do not go together is found out by trying (by
`domains/inference/backends/schedulers.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from domains.limits import LIMITS
from domains.model.backends.bounds import (
    ConfigBounds,
    Flag,
    Line,
    Many,
    Number,
    OrNull,
    Unused,
    Whole,
    words,
)

MAX_TRAIN_TIMESTEPS = 2_000
"""Models are trained on 1,000; some schedulers take seconds for several thousands. A noise
schedule may be spelled out, one number per training timestep."""
# So that any number of steps that a request may ask for can be done.
_MIN_TRAIN_TIMESTEPS = int(LIMITS["GenerationSettings.steps"].maximum or 1)
_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
_SIGMA = OrNull(Number(0, 1e6))


def _one_spacing(config: Mapping[str, Any]) -> str:
    asked = sum(bool(config.get(key)) for key in _SPACINGS)
    return "asks for two spacings of sigmas at once" if asked > 1 else ""


def _sigmas_rise(config: Mapping[str, Any]) -> str:
    least, greatest = config.get("sigma_min"), config.get("sigma_max")
    if least is not None and greatest is not None and least >= greatest:
        return "has a sigma_min that is not below its sigma_max"
    return ""


def _all_betas(config: Mapping[str, Any]) -> str:
    betas = config.get("trained_betas")
    if betas is not None and len(betas) != config.get("num_train_timesteps", 1000):
        return "has trained_betas that are not one for each of its num_train_timesteps"
    return ""


SCHEDULER = ConfigBounds(
    {
        "_class_name": Line(128),
        "algorithm_type": words(
            "deis", "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"
        ),
        "beta_end": Number(0, 1),
        "beta_schedule": words("linear", "scaled_linear", "squaredcos_cap_v2"),
        "beta_start": Number(0, 1),
        "clip_sample": Flag(),
        "clip_sample_range": Number(0, 1e6),
        "disable_corrector": Many(Whole(0, MAX_TRAIN_TIMESTEPS), least=0, most=64),
        "dynamic_thresholding_ratio": Number(0, 1, closed=True),
        "euler_at_final": Flag(),
        "final_sigmas_type": words("zero", "sigma_min"),
        "flow_shift": Number(0, 1e3),
        "interpolation_type": words("linear", "log_linear"),
        "lambda_min_clipped": Number(-math.inf, 1e6, closed=True),
        "lower_order_final": Flag(),
        "num_train_timesteps": Whole(_MIN_TRAIN_TIMESTEPS, MAX_TRAIN_TIMESTEPS),
        "original_inference_steps": Whole(1, MAX_TRAIN_TIMESTEPS),
        "predict_x0": Flag(),
        "prediction_type": words("epsilon", "v_prediction", "sample"),
        "rescale_betas_zero_snr": Flag(),
        "sample_max_value": Number(0, 1e6),
        "set_alpha_to_one": Flag(),
        "shift_terminal": OrNull(Number(0, 1)),
        "sigma_max": _SIGMA,
        "sigma_min": _SIGMA,
        "skip_prk_steps": Flag(),
        "solver_order": Whole(1, 3),
        "solver_p": Unused(),
        "solver_type": words("bh1", "bh2", "heun", "logrho", "midpoint"),
        "steps_offset": Whole(0, MAX_TRAIN_TIMESTEPS),
        "thresholding": Flag(),
        "time_shift_type": words("exponential"),
        "timestep_scaling": Number(0, 1e6),
        "timestep_spacing": words("linspace", "leading", "trailing"),
        "timestep_type": words("discrete", "continuous"),
        "trained_betas": OrNull(Many(Number(0, 1), most=MAX_TRAIN_TIMESTEPS)),
        "use_beta_sigmas": Flag(),
        "use_dynamic_shifting": Flag(),
        "use_exponential_sigmas": Flag(),
        "use_flow_sigmas": Flag(),
        "use_karras_sigmas": Flag(),
        "use_lu_lambdas": Flag(),
        "variance_type": OrNull(
            words("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log")
        ),
    },
    rules=(_one_spacing, _sigmas_rise, _all_betas),
)
