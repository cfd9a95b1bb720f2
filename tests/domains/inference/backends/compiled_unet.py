"""A small UNet of SDXL's kind, channels last, and what it is called with."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from domains.inference.backends.device import Numerics
from domains.inference.backends.precision import apply


def small_unet(numerics: Numerics, device: str = "cpu") -> Any:
    """With transformers on both ways, a doubling and joined channels; random numbers."""
    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
        use_linear_projection=True,
    )
    return apply(unet.eval().requires_grad_(False).to(device), numerics)


def arguments(
    seed: int, numerics: Numerics, device: str = "cpu"
) -> tuple[torch.Tensor, dict[str, Any]]:
    """A sample, and a text as a picture's steps share it."""
    generator = torch.Generator().manual_seed(seed)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, numerics.data_type)

    text = {
        "encoder_hidden_states": made(2, 7, 32),
        "added_cond_kwargs": {"text_embeds": made(2, 32), "time_ids": made(2, 6)},
        "return_dict": False,
    }
    sample = made(2, 4, 16, 16)
    return sample.contiguous(memory_format=torch.channels_last), text
