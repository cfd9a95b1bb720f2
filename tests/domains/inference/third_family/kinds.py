"""Single-file checkpoints of Tiny."""

from __future__ import annotations

from domains.model.backends.checkpoint_kinds.kind import (
    CLIP_L,
    SCHEDULE,
    CheckpointKind,
    Padded,
    Part,
    as_in_folders,
    unet_part,
    vae_part,
)
from domains.model.backends.families.clip import CLIP_TEXT
from domains.model.backends.families.registry import BY_ARCHITECTURE
from domains.model.types import Architecture, ModelType, PredictionType

_FAMILY = BY_ARCHITECTURE[Architecture("tiny")]
KINDS = (
    CheckpointKind(
        ModelType.CHECKPOINT,
        _FAMILY.architecture,
        "Tiny",
        {
            "text_encoder": Part("text_encoders.tiny.", CLIP_TEXT, as_in_folders, CLIP_L),
            "unet": unet_part({"sample_size": 32}),
            "vae": vae_part(_FAMILY.vae_scale),
        },
        {"tokenizer": Padded("text_encoder")},
        {"_class_name": "TinyDiffusionPipeline"},
        "tiny-diffusion",
        {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing", **SCHEDULE},
        _FAMILY.incompatible,
        prediction=PredictionType.V_PREDICTION,
    ),
)
