"""The kinds of single-file checkpoints: where their networks are, and what no shape tells.

What is said here is what the folders of the models say that a kind is named after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from domains.model.backends.bounds import Config
from domains.model.backends.families import sd1, sd2, sdxl
from domains.model.backends.families.clip import CLIP_TEXT, CLIP_TEXT_PROJECTION
from domains.model.backends.families.components import NetworkClass
from domains.model.backends.families.unet import UNET
from domains.model.backends.families.vae import VAE
from domains.model.backends.layouts.open_clip import (
    original_open_clip,
    with_last_layer,
    without_last_layer,
)
from domains.model.backends.layouts.unet import original_unet_names
from domains.model.backends.layouts.vae import original_vae_names
from domains.model.backends.model_plan import Origin
from domains.model.types import Architecture, ModelType, PredictionType

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_MODEL = "text_model."
"""In front of the names of a text encoder's tensors in folders, but for its projection."""
_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
_EULER = {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
    **_SCHEDULE,
}
_CLIP_L = {"hidden_act": "quick_gelu", "bos_token_id": 49406, "eos_token_id": 49407}
_OPEN_CLIP = _CLIP_L | {"hidden_act": "gelu"}


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
    prediction: PredictionType = PredictionType.EPSILON
    settle: Callable[[Mapping[str, Config]], None] = lambda _configs: None


def _sized(time_ids: int) -> Callable[[Mapping[str, Config]], None]:
    """The width that each number about sizes gets: what the pooled text leaves of the input."""

    def settle(configs: Mapping[str, Config]) -> None:
        unet, pooled = configs["unet"], configs["text_encoder_2"].get("projection_dim", 0)
        width = unet.get("projection_class_embeddings_input_dim", 0) - pooled
        if width > 0 and width % time_ids == 0:
            unet["addition_time_embed_dim"] = width // time_ids

    return settle


def _unet(settings: Config) -> Part:
    def names(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
        return {new: (name,) for name, new in original_unet_names(folder).items()}

    return Part(UNET_PREFIX, UNET, names, settings)


def _vae(scale: float) -> Part:
    def names(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
        return {new: (name,) for name, new in original_vae_names(folder).items()}

    return Part(VAE_PREFIX, VAE, names, {"scaling_factor": scale, "force_upcast": True})


def _as_in_folders(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """CLIP's own encoder has the same names in both."""
    return {f"{TEXT_MODEL}{name}": (name,) for name in folder}


def _openclip_h(folder: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return with_last_layer(original_open_clip(folder))


_SDXL_UNET = _unet({"sample_size": 128})
_SDXL_VAE = _vae(0.13025)
_SD_VAE = _vae(0.18215)

SDXL = CheckpointKind(
    ModelType.CHECKPOINT,
    Architecture.SDXL,
    "SDXL",
    {
        "text_encoder": Part(
            "conditioner.embedders.0.transformer.", CLIP_TEXT, _as_in_folders, _CLIP_L
        ),
        "text_encoder_2": Part(
            "conditioner.embedders.1.model.",
            CLIP_TEXT_PROJECTION,
            original_open_clip,
            _OPEN_CLIP,
        ),
        "unet": _SDXL_UNET,
        "vae": _SDXL_VAE,
    },
    {"tokenizer": Padded("text_encoder"), "tokenizer_2": Padded("text_encoder_2", "!")},
    {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True},
    "stable-diffusion-xl-v1-base",
    _EULER,
    sdxl.FAMILY.incompatible,
    settle=_sized(sdxl.TIME_IDS),
)
REFINER = CheckpointKind(
    ModelType.REFINER,
    Architecture.SDXL,
    "SDXL refiner",
    {
        "text_encoder_2": Part(
            "conditioner.embedders.0.model.",
            CLIP_TEXT_PROJECTION,
            original_open_clip,
            _OPEN_CLIP,
        ),
        "unet": _SDXL_UNET,
        "vae": _SDXL_VAE,
    },
    {"tokenizer_2": Padded("text_encoder_2", "!")},
    {
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
    },
    "stable-diffusion-xl-v1-refiner",
    _EULER,
    sdxl.incompatible_refiner,
    settle=_sized(sdxl.REFINER_TIME_IDS),
)
SD1 = CheckpointKind(
    ModelType.CHECKPOINT,
    Architecture.SD1,
    "SD 1.x",
    {
        "text_encoder": Part(
            "cond_stage_model.transformer.", CLIP_TEXT, _as_in_folders, _CLIP_L
        ),
        "unet": _unet({"sample_size": 64}),
        "vae": _SD_VAE,
    },
    {"tokenizer": Padded("text_encoder")},
    {"_class_name": "StableDiffusionPipeline"},
    "stable-diffusion-v1",
    {
        "_class_name": "PNDMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        **_SCHEDULE,
    },
    sd1.FAMILY.incompatible,
)
SD2 = CheckpointKind(
    ModelType.CHECKPOINT,
    Architecture.SD2,
    "SD 2.x",
    {
        "text_encoder": Part(
            "cond_stage_model.model.", CLIP_TEXT, _openclip_h, _OPEN_CLIP, without_last_layer
        ),
        "unet": _unet({"sample_size": 96, "upcast_attention": True}),
        "vae": _SD_VAE,
    },
    {"tokenizer": Padded("text_encoder", "!")},
    {"_class_name": "StableDiffusionPipeline"},
    "stable-diffusion-v2-512",
    {
        "_class_name": "DDIMScheduler",
        "clip_sample": False,
        "set_alpha_to_one": False,
        **_SCHEDULE,
    },
    sd2.FAMILY.incompatible,
    prediction=PredictionType.V_PREDICTION,
)
KINDS = (SDXL, REFINER, SD1, SD2)
"""Every kind; of two whose networks a file could hold, the first is meant."""
