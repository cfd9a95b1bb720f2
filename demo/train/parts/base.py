"""The base model as its parts, frozen and ready to be trained against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

BASE = Path(__file__).parents[2] / "models" / "emoji-xl"


@dataclass
class BaseModel:
    """The parts of an SDXL-layout model; one tokenizer serves both encoders.

    `unet` is a UNet2DConditionModel and `vae` an AutoencoderKL, which diffusers leaves untyped.
    """

    unet: Any
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection
    tokenizer: CLIPTokenizer
    vae: Any


def arrangement(device: torch.device | str) -> torch.memory_format:
    """How convolutions are fastest: channels last on CUDA, where tensor cores want it.

    On a CPU that is some ten times slower for networks as narrow as these.
    """
    on_cuda = torch.device(device).type == "cuda"
    return torch.channels_last if on_cuda else torch.contiguous_format


def load_base(
    folder: Path = BASE,
    *,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
) -> BaseModel:
    """Reads an SDXL-layout folder, with float16 or plain file names.

    Every part is in evaluation mode and asks for no gradient; a script turns on what it
    trains. Raises OSError when a part is missing.
    """

    def variant(part: str) -> str | None:
        return "fp16" if any((folder / part).glob("*.fp16.safetensors")) else None

    def read(kind: Any, part: str) -> Any:
        model = kind.from_pretrained(folder, subfolder=part, variant=variant(part))
        if any(parameter.dim() == 4 for parameter in model.parameters()):
            model.to(memory_format=arrangement(device))
        if model.dtype != dtype:
            model.to(dtype)
        return model.to(device).requires_grad_(False).eval()

    return BaseModel(
        unet=read(UNet2DConditionModel, "unet"),
        text_encoder=read(CLIPTextModel, "text_encoder"),
        text_encoder_2=read(CLIPTextModelWithProjection, "text_encoder_2"),
        tokenizer=CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        vae=read(AutoencoderKL, "vae"),
    )
