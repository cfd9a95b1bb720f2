"""IP-Adapters as networks: what makes tokens of a picture, and keys and values of the tokens.

"IP-Adapter: Text Compatible Image Prompt Adapter for Text-to-Image Diffusion Models"
(arXiv:2308.06721). The parts that make tokens are diffusers'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFullImageProjection,
    IPAdapterPlusImageProjection,
)
from torch import nn

from domains.model.backends.families.image_prompt import FULL_FACE, PLAIN


class ImagePromptAdapter(nn.Module):
    """An adapter for one UNet, of whose cross-attentions each has a key and a value.

    Attributes:
        projection: Takes `[pictures, width]`, or `[pictures, places, width]` where it reads
            hidden states, and gives `[pictures, tokens, cross_attention_dim]`.
        to_keys: One for each cross-attention, in the order of diffusers' `attn_processors`.
        to_values: Likewise.
        reads_hidden_states: Whether it takes the encoder's hidden states before its last
            layer, not the one embedding of a picture.
        width: Of what it takes.

    Args:
        kind: One of `families.image_prompt`.
        cross_attention_dim: Numbers in a token.
        embedding_width: See `width`.
        layer_widths: Inner widths of the cross-attentions.
        tokens: That a picture becomes.
        hidden_size: Inside of the resampler.
        num_attention_heads: Of the resampler, each 64 wide.
        num_hidden_layers: Of the resampler.
    """

    def __init__(
        self,
        kind: str,
        cross_attention_dim: int,
        embedding_width: int,
        layer_widths: Sequence[int],
        tokens: int,
        hidden_size: int = 0,
        num_attention_heads: int = 0,
        num_hidden_layers: int = 0,
    ) -> None:
        super().__init__()
        self.projection: nn.Module
        if kind == PLAIN:
            self.projection = ImageProjection(embedding_width, cross_attention_dim, tokens)
        elif kind == FULL_FACE:
            full: Any = IPAdapterFullImageProjection
            self.projection = full(embedding_width, cross_attention_dim)
        else:
            self.projection = IPAdapterPlusImageProjection(
                embed_dims=embedding_width,
                output_dims=cross_attention_dim,
                hidden_dims=hidden_size,
                depth=num_hidden_layers,
                heads=num_attention_heads,
                num_queries=tokens,
            )
        self.to_keys, self.to_values = (
            nn.ModuleList(
                nn.Linear(cross_attention_dim, width, bias=False) for width in layer_widths
            )
            for _ in range(2)
        )
        self.reads_hidden_states = kind != PLAIN
        self.width = embedding_width
