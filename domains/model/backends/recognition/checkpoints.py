"""Checkpoints in one file, and denoisers alone."""

from __future__ import annotations

import re
from dataclasses import replace

from domains.model.backends.families.registry import BY_ARCHITECTURE, marked
from domains.model.backends.recognised import Recognised
from domains.model.backends.recognition.tensors import Tensors
from domains.model.backends.recognition.unets import denoiser, is_unet
from domains.model.types import ModelType, PredictionType

_DENOISER = "model.diffusion_model."
# A diffusers folder whose networks were put into one file.
_PARTS = ("unet.", "vae.decoder.")
_VAES = ("first_stage_model.decoder.", "vae.decoder.")
_TEXT_ENCODERS = (
    *("cond_stage_model.", "conditioner.embedders.", "text_encoders."),
    *("text_encoder.", "te."),
)
_DISTILLED = re.compile(r"\b(turbo|lightning|hyper|lcm|dmd2?|pcm|distilled)", re.IGNORECASE)
_STEPS = re.compile(r"\b(\d{1,2})[ -]?steps?\b", re.IGNORECASE)
_WRAPPERS = ("unet.", "diffusion_model.", "model.", "transformer.", "net.", "module.")


def checkpoint(tensors: Tensors) -> Recognised | None:
    """What a file with a denoiser inside is; None where there is none."""
    inner = tensors.below(_DENOISER)
    if not len(inner) and tensors.has_all(_PARTS):
        inner = tensors.below(_PARTS[0])
    if not len(inner):
        return _alone(tensors)
    found = denoiser(inner) or Recognised(ModelType.CHECKPOINT)
    if not found.family:
        found = _with_encoders(found, tensors)
    lacks = []
    if not tensors.has_any(_VAES):
        lacks.append("VAE")
    if not tensors.has_any(_TEXT_ENCODERS):
        lacks.append("text encoder")
    return _marked(replace(found, lacks=tuple(lacks)), tensors)


def _alone(tensors: Tensors) -> Recognised | None:
    """A denoiser of which the file holds nothing else."""
    inner = tensors.unwrapped(_WRAPPERS)
    found = denoiser(inner)
    if found is None or _is_control(inner):
        return None
    return _marked(replace(found, lacks=("VAE", "text encoder")), tensors)


def _is_control(tensors: Tensors) -> bool:
    return tensors.has_any(("controlnet_", "control_", "zero_convs.")) and not is_unet(tensors)


def _with_encoders(found: Recognised, tensors: Tensors) -> Recognised:
    """By the names of the text encoders, which models of any size have."""
    refiner = marked(ModelType.REFINER, tensors)
    if refiner is not None:
        kind = found.kind or "SDXL refiner"
        return replace(found, type=ModelType.REFINER, architecture=refiner, kind=kind)
    architecture = found.architecture or marked(ModelType.CHECKPOINT, tensors)
    prediction = found.prediction
    if architecture is not None:
        prediction = prediction or BY_ARCHITECTURE[architecture].prediction
    return replace(found, architecture=architecture, prediction=prediction)


def _marked(found: Recognised, tensors: Tensors) -> Recognised:
    """What marker tensors and the file's own words say of training and distillation."""
    if tensors.has_all(("edm_mean", "edm_std")):
        return replace(found, kind="Playground 2.5", formulation="EDM", prediction=None)
    if tensors.has("edm_vpred.sigma_max"):
        return replace(found, kind="CosXL", formulation="EDM v-prediction", prediction=None)
    if "v_pred" in tensors.shapes:
        found = replace(found, prediction=PredictionType.V_PREDICTION)
    if "ztsnr" in tensors.shapes:
        found = replace(found, zero_terminal_snr=True)
    return _distilled(found, tensors)


def _distilled(found: Recognised, tensors: Tensors) -> Recognised:
    """By the title that the file has inside; a description speaks of other models, too."""
    said = " ".join(
        tensors.metadata.get(f"modelspec.{key}", "")[:512] for key in ("architecture", "title")
    )
    kind = _DISTILLED.search(said)
    if kind is None or found.distilled_steps:
        return found
    hints = f"{said} {tensors.metadata.get('modelspec.usage_hint', '')[:512]}"
    steps = _STEPS.search(hints)
    called = found.kind or kind[1].capitalize()
    return replace(found, kind=called, distilled_steps=int(steps[1]) if steps else 0)
