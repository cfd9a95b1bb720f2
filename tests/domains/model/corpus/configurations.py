"""The public configurations of real networks, as far as they are not their class's defaults.

Sources: `config.json` of the repositories on huggingface.co that each is named after.
"""

from __future__ import annotations

from typing import Any

_CROSS, _DOWN = "CrossAttnDownBlock2D", "DownBlock2D"
_UP_CROSS, _UP = "CrossAttnUpBlock2D", "UpBlock2D"

SD1: dict[str, Any] = {  # stable-diffusion-v1-5/stable-diffusion-v1-5
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD2: dict[str, Any] = {  # stabilityai/stable-diffusion-2-1
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
UPSCALER_X4: dict[str, Any] = {  # stabilityai/stable-diffusion-x4-upscaler
    "in_channels": 7,
    "block_out_channels": [256, 512, 512, 1024],
    "down_block_types": [_DOWN, _CROSS, _CROSS, _CROSS],
    "up_block_types": [_UP_CROSS, _UP_CROSS, _UP_CROSS, _UP],
    "only_cross_attention": [True, True, True, False],
    "num_class_embeds": 1000,
    "cross_attention_dim": 1024,
    "attention_head_dim": 8,
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {  # stabilityai/stable-diffusion-xl-base-1.0
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [_DOWN, _CROSS, _CROSS],
    "up_block_types": [_UP_CROSS, _UP_CROSS, _UP],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
REFINER: dict[str, Any] = SDXL | {  # stabilityai/stable-diffusion-xl-refiner-1.0
    "block_out_channels": [384, 768, 1536, 1536],
    "down_block_types": [_DOWN, _CROSS, _CROSS, _DOWN],
    "up_block_types": [_UP, _UP_CROSS, _UP_CROSS, _UP],
    "transformer_layers_per_block": 4,
    "attention_head_dim": [6, 12, 24, 24],
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
SSD_1B: dict[str, Any] = SDXL | {  # segmind/SSD-1B
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
VEGA: dict[str, Any] = SDXL | {  # segmind/Segmind-Vega
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [1, 1], [2, 2]],
    "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
}
KOALA_700M: dict[str, Any] = SDXL | {  # etri-vilab/koala-700m
    "layers_per_block": 1,
    "mid_block_type": None,
    "transformer_layers_per_block": [1, 2, 5],
}
KOALA_1B: dict[str, Any] = SDXL | {  # etri-vilab/koala-1b
    "layers_per_block": 1,
    "transformer_layers_per_block": [1, 2, 6],
}
KOLORS: dict[str, Any] = SDXL | {  # Kwai-Kolors/Kolors-diffusers
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "projection_class_embeddings_input_dim": 5632,
}
CONTROL_SDXL: dict[str, Any] = {  # diffusers/controlnet-canny-sdxl-1.0
    key: value for key, value in SDXL.items() if key != "up_block_types"
}
CONTROL_SDXL_MID = CONTROL_SDXL | {"transformer_layers_per_block": [0, 0, 1]}
CONTROL_SDXL_SMALL = CONTROL_SDXL | {  # diffusers/controlnet-canny-sdxl-1.0-small
    "down_block_types": [_DOWN, _DOWN, _DOWN],
    "mid_block_type": "UNetMidBlock2D",
}
VAE: dict[str, Any] = {  # stabilityai/sdxl-vae; SD 1.x and 2.x have the same tensors
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
VAE_16 = VAE | {  # black-forest-labs/FLUX.1-dev
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
CLIP_L = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "projection_dim": 768,
}
OPENCLIP_H = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "projection_dim": 1024,
}
OPENCLIP_G = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "intermediate_size": 5120,
    "projection_dim": 1280,
}
T5_XXL = {
    "d_model": 4096,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "d_kv": 64,
    "feed_forward_proj": "gated-gelu",
}
VISION_L = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "patch_size": 14,
    "projection_dim": 768,
}
VISION_H = VISION_L | {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "intermediate_size": 5120,
    "projection_dim": 1024,
}
VISION_G = VISION_L | {
    "hidden_size": 1664,
    "num_hidden_layers": 48,
    "intermediate_size": 8192,
    "projection_dim": 1280,
}
