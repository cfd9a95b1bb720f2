"""The configuration of a network of any class, from its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from domains.model.backends.bounds import Config
from domains.model.backends.component_config import check_config
from domains.model.backends.derived.clip import clip_config
from domains.model.backends.derived.clip_vision import clip_vision_config
from domains.model.backends.derived.image_prompt import image_prompt_config
from domains.model.backends.derived.unet import control_net_config, unet_config, union_config
from domains.model.backends.derived.vae import vae_config
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.model_plan import Origin

_BY_CLASS = {
    "AutoencoderKL": vae_config,
    "CLIPTextModel": clip_config,
    "CLIPTextModelWithProjection": clip_config,
    "CLIPVisionModelWithProjection": clip_vision_config,
    "ControlNetModel": control_net_config,
    "ControlNetUnionModel": union_config,
    "ImagePromptAdapter": image_prompt_config,
    "UNet2DConditionModel": unet_config,
}


def derived_config(
    component: str,
    network_class: NetworkClass,
    tensors: Mapping[str, Origin],
    settings: Config,
) -> Config:
    """What a network's tensors tell of its configuration, with settings that they do not.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE, where a layer is missing that all have;
            MODEL_CONFIG_INVALID where no network of the class has such tensors.
    """
    shapes = {name: origin.shape for name, origin in tensors.items()}
    told = _BY_CLASS[network_class.name](component, shapes)
    config = {**network_class.defaults, **settings, **told}
    check_config(config, network_class.bounds, called=component)
    return config
