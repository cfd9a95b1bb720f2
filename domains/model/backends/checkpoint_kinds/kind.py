"""What a kind of single-file checkpoint says of itself, and what several of them say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from domains.model.backends.bounds import Config
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from domains.model.backends.layouts.unet import original_unet_names
from domains.model.backends.layouts.vae import original_vae_names
from domains.model.backends.model_plan import Origin
from domains.model.types import Architecture, ModelType, PredictionType

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_MODEL = "text_model."
"""In front of the names of a text encoder's tensors in folders, but for its projection."""
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
CLIP_L = {"hidden_act": "quick_gelu", "bos_token_id": 49406, "eos_token_id": 49407}
OPEN_CLIP = CLIP_L | {"hidden_act": "gelu"}
SD_NAMED_WITHOUT = ("feature_extractor", "image_encoder", "safety_checker")


@dataclass(frozen=True)
class Part:
    """A network in a checkpoint.

    Attributes:
        prefix: In front of its tensors' names.
        network_class: Its class.
        settings: What its configuration has beside what shapes tell.
        names: Its tensors' names behind the prefix, each with the names in folders of those
            that fill it, one below the other; given the names in folders.
        mend: Changes which tensors are used.
    """

    prefix: str
    network_class: NetworkClass
    names: Callable[[Iterable[str]], Mapping[str, tuple[str, ...]]]
    settings: Config = field(default_factory=dict)
    mend: Callable[[Mapping[str, Origin]], Mapping[str, Origin]] = lambda tensors: tensors


@dataclass(frozen=True)
class Padded:
    """The tokenizer of a text encoder, and the token that it fills texts up with."""

    encoder: str
    token: str = "<|endoftext|>"


@dataclass(frozen=True)
class CheckpointKind:
    """A kind of checkpoint.

    Attributes:
        type: What it is for.
        architecture: Its family.
        title: What people call it.
        parts: Its networks by their folders' names, in the order in which they are loaded.
        tokenizers: By their folders' names.
        index: What the folder's `model_index.json` says.
        standard_name: Its architecture in the model metadata standard (modelspec).
        named_without: Parts that libraries expect an index to name, and a model may lack.
        scheduler: What the folder's scheduler configuration says.
        prediction: What its denoiser predicts, where a file does not say.
        settle: Adds to configurations what follows from several of them.
        incompatible: Given the networks' configurations by folder: why they make no model of
            the kind, as a clause; empty when they make one.
    """

    type: ModelType
    architecture: Architecture
    title: str
    parts: Mapping[str, Part]
    tokenizers: Mapping[str, Padded]
    index: Config
    standard_name: str
    scheduler: Config
    incompatible: Callable[[Mapping[str, Config]], str]
    named_without: tuple[str, ...] = ()
    prediction: PredictionType = PredictionType.EPSILON
    settle: Callable[[Mapping[str, Config]], None] = lambda _configs: None


def unet_part(settings: Config) -> Part:
    """A UNet with the original's names."""

    def names(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
        return {new: (name,) for name, new in original_unet_names(folder).items()}

    return Part(UNET_PREFIX, UNET, names, settings)


def vae_part(scale: float) -> Part:
    """A VAE with the original's names, whose latents are multiplied by `scale`."""

    def names(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
        return {new: (name,) for name, new in original_vae_names(folder).items()}

    return Part(VAE_PREFIX, VAE, names, {"scaling_factor": scale, "force_upcast": True})


def as_in_folders(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """CLIP's own encoder has the same names in both."""
    return {f"{TEXT_MODEL}{name}": (name,) for name in folder}
