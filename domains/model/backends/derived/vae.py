"""Configurations of VAEs."""

from __future__ import annotations

from domains.model.backends.bounds import Config
from domains.model.backends.derived.shapes import Shapes, Told


def vae_config(component: str, shapes: Shapes) -> Config:
    """The configuration of a VAE, without the scale of its latents, which no shape tells.

    Raises:
        FailedPrecondition: MODEL_INCOMPLETE, where a layer is missing that all have.
    """
    told = Told(component, shapes)
    blocks = told.count("encoder.down_blocks.")
    if not blocks:
        raise told.missing("encoder.down_blocks.0.resnets.0.conv1.weight")
    return {
        "in_channels": told.size("encoder.conv_in.weight", 1),
        "out_channels": told.size("decoder.conv_out.weight", 0),
        "latent_channels": told.size("decoder.conv_in.weight", 1),
        "block_out_channels": [
            told.size(f"encoder.down_blocks.{block}.resnets.0.conv1.weight", 0)
            for block in range(blocks)
        ],
        "layers_per_block": told.count("encoder.down_blocks.0.resnets."),
        "down_block_types": ["DownEncoderBlock2D"] * blocks,
        "up_block_types": ["UpDecoderBlock2D"] * blocks,
        "mid_block_add_attention": told.has("encoder.mid_block.attentions."),
        "use_quant_conv": told.has("quant_conv."),
        "use_post_quant_conv": told.has("post_quant_conv."),
    }
