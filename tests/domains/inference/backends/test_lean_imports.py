"""What a worker does without is not imported, and what it has is what everybody has."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import diffusers
import pytest
import transformers

_IN_A_WORKER = """
import json, pathlib, sys
from server.worker.child.__main__ import build_parts
from server.worker.child.environment import settle_environment

settle_environment()
build_parts("cpu", pathlib.Path("code"))
loaded = {"at the start": sorted(sys.modules)}
import diffusers, transformers
from domains.inference.backends.model_loading import import_classes
import_classes()
loaded["with networks"] = sorted(sys.modules)
scheduler = diffusers.EulerDiscreteScheduler(use_beta_sigmas=True)
scheduler.set_timesteps(7)
loaded["with the beta schedule"] = sorted(sys.modules)
multistep = diffusers.LMSDiscreteScheduler()
multistep.set_timesteps(7)
coefficients = [multistep.get_lms_coefficient(4, 5, order) for order in range(4)]
print(json.dumps({
    "loaded": loaded,
    "sigmas": [float(sigma).hex() for sigma in scheduler.sigmas],
    "coefficients": [float(each).hex() for each in coefficients],
    "models": sorted(dir(transformers.models)),
    "clip": sorted(dir(transformers.models.clip)),
}))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What a process says that starts as a worker does."""
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_WORKER], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("when", "name"),
    [
        ("at the start", "torch._dynamo"),
        ("at the start", "scipy.stats._stats_py"),
        ("with networks", "scipy.stats._stats_py"),
        ("with networks", "scipy.integrate._quadpack_py"),
        ("with networks", "scipy.optimize"),
        ("with networks", "peft.tuners"),
    ],
)
def test_a_worker_does_without(told: dict[str, Any], when: str, name: str) -> None:
    assert name not in told["loaded"][when]
    assert "diffusers.utils.torch_utils" in told["loaded"][when]


def test_a_worker_has_the_networks(told: dict[str, Any]) -> None:
    assert {
        "diffusers.models.unets.unet_2d_condition",
        "transformers.models.clip.modeling_clip",
        "torch._dynamo",
    } <= set(told["loaded"]["with networks"])


def test_a_worker_has_the_statistics_of_scipy_at_their_first_use(told: dict[str, Any]) -> None:
    assert "scipy.stats._stats_py" in told["loaded"]["with the beta schedule"]
    scheduler = diffusers.EulerDiscreteScheduler(use_beta_sigmas=True)
    scheduler.set_timesteps(7)
    assert told["sigmas"] == [float(sigma).hex() for sigma in scheduler.sigmas]


def test_a_worker_integrates_as_everybody_does(told: dict[str, Any]) -> None:
    scheduler = diffusers.LMSDiscreteScheduler()
    scheduler.set_timesteps(7)
    found = [scheduler.get_lms_coefficient(4, 5, order) for order in range(4)]
    assert told["coefficients"] == [float(each).hex() for each in found]


def test_transformers_offers_a_worker_what_it_offers_everybody(told: dict[str, Any]) -> None:
    assert {"CLIPTextModel", "CLIPTokenizer"} <= set(told["models"])
    # What was used already is there by further names.
    assert set(told["models"]) >= {
        name for name in dir(transformers.models) if name[0].isupper()
    }
    assert "CLIPTextModelWithProjection" in told["clip"]
