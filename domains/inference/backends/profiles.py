"""What a profile sets, and bringing a loaded model into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domains.device.jobs import OptimizationChange
from domains.device.types import OptimizationProfile
from domains.inference.backends import compilation
from domains.inference.backends.device import data_type_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.sliced_attention import SlicedAttention
from domains.inference.types import PrecisionMode


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


def bring_into(model: LoadedModel, settings: ProfileSettings) -> None:
    """Have `model` run with `settings` from here on; its weights stay as they are."""
    model.vae_tiling = settings.vae_tiling
    unet = model.networks["unet"]
    if settings.attention_slicing and model.plain_attention is None:
        model.plain_attention = dict(unet.attn_processors)  # type: ignore[arg-type]
        unet.set_attn_processor(SlicedAttention())  # type: ignore[operator]
    elif not settings.attention_slicing and model.plain_attention is not None:
        unet.set_attn_processor(model.plain_attention)  # type: ignore[operator]
        model.plain_attention = None
    if model.compiled and not settings.compiling:
        compilation.undo(unet)
        model.compiled = False


def describe(settings: ProfileSettings, model: LoadedModel | None) -> dict[str, str]:
    """Everything a profile may change, by name, as text for people."""
    found = {
        "open_precision": settings.open_precision.value,
        "attention_slicing": _on(settings.attention_slicing),
        "vae_tiling": _on(settings.vae_tiling),
    }
    if model is not None:
        found |= {
            "unet_data_type": data_type_of(model.unet_numerics.data_type).value,
            "unet_channels_last": _on(model.unet_numerics.channels_last),
            "vae_data_type": data_type_of(model.vae_numerics.data_type).value,
            "vae_channels_last": _on(model.vae_numerics.channels_last),
            "compilation": _on(model.compiled),
        }
    return found


def changes(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[OptimizationChange, ...]:
    """What differs, in the order of `after`."""
    return tuple(
        OptimizationChange(name, before.get(name, ""), value)
        for name, value in after.items()
        if before.get(name, "") != value
    )


def _on(setting: bool) -> str:
    return "on" if setting else "off"
