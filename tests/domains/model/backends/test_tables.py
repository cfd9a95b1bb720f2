"""The tables of keys are those of the installed libraries' classes: none is missing."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from typing import Any

import diffusers
import pytest
import transformers

from domains.model.backends.families.clip import CLIP_TEXT, CLIP_TEXT_PROJECTION
from domains.model.backends.families.clip_vision import CLIP_VISION_PROJECTION
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.schedulers import SCHEDULER
from domains.model.backends.families.tokenizer import NAMED_TOKENS, OTHER_TOKENS, TOKENIZER
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from tests.libraries import OLD_DIFFUSERS

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
# What no configuration of a CLIP text encoder decides here.
_COMMON = inspect.signature(transformers.PretrainedConfig).parameters.keys()


def defaults_of(cls: type) -> dict[str, Any]:
    """A class's own parameters with their defaults, as JSON has them."""
    parameters = inspect.signature(cls).parameters
    values = {name: parameter.default for name, parameter in parameters.items()}
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def taken(keys: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, str]:
    """What the bounds say of the defaults; keys without a bound say so."""
    said = {
        key: keys[key].problem(default) if key in keys else "has no bound"
        for key, default in defaults.items()
    }
    return {key: problem for key, problem in said.items() if problem}


@pytest.mark.parametrize("network", [UNET, VAE], ids=lambda network: network.name)
def test_every_key_of_a_network_of_diffusers_has_a_bound(network: NetworkClass) -> None:
    defaults = defaults_of(getattr(diffusers, network.name))
    assert taken(network.bounds.keys, defaults) == {}
    assert set(network.bounds.keys) - set(defaults) == {"quantization_config"}


@pytest.mark.parametrize(
    "network", [CLIP_TEXT, CLIP_TEXT_PROJECTION], ids=lambda network: network.name
)
def test_every_key_of_a_text_encoder_has_a_bound(network: NetworkClass) -> None:
    cls = getattr(transformers, network.name).config_class
    defaults = {k: v for k, v in defaults_of(cls).items() if k not in _COMMON}
    assert taken(network.bounds.keys, defaults) == {}
    # What the pipelines read of it beside the class.
    beside = {"quantization_config", "use_attention_mask"}
    assert set(network.bounds.keys) - set(defaults) == beside


def test_every_key_of_an_image_encoder_has_a_bound() -> None:
    keys = CLIP_VISION_PROJECTION.bounds.keys
    defaults = {
        key: value
        for key, value in defaults_of(transformers.CLIPVisionConfig).items()
        if key not in _COMMON
    }
    assert taken(keys, defaults) == {}
    assert set(keys) - set(defaults) == {"quantization_config"}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_key_of_a_scheduler_has_a_bound(name: str) -> None:
    assert taken(SCHEDULER.keys, defaults_of(getattr(diffusers, name))) == {}


@pytest.mark.skipif(OLD_DIFFUSERS, reason="this diffusers has fewer keys")
def test_no_key_of_schedulers_is_made_up() -> None:
    known = {key for name in SCHEDULERS for key in defaults_of(getattr(diffusers, name))}
    assert set(SCHEDULER.keys) - known == {"_class_name"}
    assert SCHEDULER.keys["lambda_min_clipped"].problem(-math.inf) == ""


def test_every_special_token_of_the_library_has_a_bound() -> None:
    library = transformers.CLIPTokenizer.SPECIAL_TOKENS_ATTRIBUTES
    assert {*NAMED_TOKENS, *OTHER_TOKENS} == set(library) <= set(TOKENIZER.keys)
