"""What a profile sets, and bringing a loaded model into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from domains.device.jobs import OptimizationChange, OptimizationSetting
from domains.device.types import OptimizationProfile
from domains.inference.backends import compilation
from domains.inference.backends.compiled.shelf import CodeShelf
from domains.inference.backends.device import data_type_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.sliced_attention import SlicedAttention
from domains.inference.types import PrecisionMode
from domains.values import ModelPart


@dataclass(frozen=True)
class ProfileSettings:
    """What a profile decides.

    `open_precision` is for requests that leave theirs open; an EXACT one stays exact
    under every profile. `compiling` allows compiled code for FASTEST requests where it
    was measured to pay. The VAE decodes picture by picture under every profile.
    """

    open_precision: PrecisionMode = PrecisionMode.EXACT
    attention_slicing: bool = False
    vae_tiling: bool = False
    compiling: bool = False


PROFILES: Mapping[OptimizationProfile, ProfileSettings] = {
    OptimizationProfile.BALANCED: ProfileSettings(),
    OptimizationProfile.LOW_MEMORY: ProfileSettings(attention_slicing=True, vae_tiling=True),
    OptimizationProfile.FAST: ProfileSettings(
        open_precision=PrecisionMode.FASTEST, compiling=True
    ),
}


def bring_into(
    model: LoadedModel, settings: ProfileSettings, code: CodeShelf | None = None
) -> None:
    """Have `model` run with `settings` from here on; its weights stay as they are.

    `code` has compiled code, for where a profile allows it.
    """
    model.vae_tiling = settings.vae_tiling
    unet = model.networks["unet"]
    if settings.attention_slicing and model.plain_attention is None:
        model.plain_attention = dict(unet.attn_processors)  # type: ignore[arg-type]
        unet.set_attn_processor(SlicedAttention())  # type: ignore[operator]
    elif not settings.attention_slicing and model.plain_attention is not None:
        unet.set_attn_processor(model.plain_attention)  # type: ignore[operator]
        model.plain_attention = None
    model.code = code if settings.compiling else None
    if model.code is None:
        for network in model.networks.values():
            compilation.undo(network)


Described: TypeAlias = Mapping[tuple[OptimizationSetting, ModelPart | None], str]
"""How settings are, as text for people; by setting, and the part of the model it is of."""


def describe(settings: ProfileSettings, model: LoadedModel | None) -> Described:
    """Everything a profile may change."""
    setting, denoiser, vae = OptimizationSetting, ModelPart.DENOISER, ModelPart.VAE
    found: dict[tuple[OptimizationSetting, ModelPart | None], str] = {
        (setting.PRECISION, None): settings.open_precision.value,
        (setting.ATTENTION_SLICING, None): _on(settings.attention_slicing),
        (setting.VAE_TILING, None): _on(settings.vae_tiling),
    }
    if model is not None:
        for part, numerics in ((denoiser, model.unet_numerics), (vae, model.vae_numerics)):
            found[setting.DATA_TYPE, part] = data_type_of(numerics.data_type).value
            found[setting.CHANNELS_LAST, part] = _on(numerics.channels_last)
        found[setting.COMPILATION, None] = _on(model.runs_code)
    return found


def changes(before: Described, after: Described) -> tuple[OptimizationChange, ...]:
    """What differs, in the order of `after`."""
    return tuple(
        OptimizationChange(setting, part, before.get((setting, part), ""), value)
        for (setting, part), value in after.items()
        if before.get((setting, part), "") != value
    )


def _on(setting: bool) -> str:
    return "on" if setting else "off"
