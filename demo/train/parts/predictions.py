"""The base model as a function of noise, to be learnt from and compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from demo.train.parts.base import BaseModel
from demo.train.parts.capture import SdxlDenoiser
from demo.train.parts.diffusion import Predict
from demo.train.parts.text import SdxlText, time_ids


def base_predict(base: BaseModel, ids: Tensor, denoiser: nn.Module | None = None) -> Predict:
    """What the base model predicts for prompts given as token ids, int64 [B, 77].

    `denoiser` is its UNet, if it is to be another than the base's own.
    """
    with torch.no_grad():
        condition = SdxlText(base).encode_tokens(ids)
    sizes = time_ids(len(ids), ids.device)
    unet = denoiser or SdxlDenoiser(base.unet)
    return lambda noisy, times: unet(noisy, times, condition.states, condition.pooled, sizes)
