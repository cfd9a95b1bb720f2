"""Attention in slices: the same numbers with a smaller table of scores in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


class SlicedAttention:
    """An attention processor for diffusers' `Attention`, one head of one picture at a time.

    Where a device has no fused attention, the scores of `[batch, heads, tokens, tokens]`
    are what takes the memory; here they are `[tokens, tokens]`. Otherwise as diffusers'
    `AttnProcessor2_0`, whose form without masks and spatial norms is all that a UNet uses.
    """

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `AttnProcessor2_0`: `[batch, tokens, width]` in and out."""
        assert attention_mask is None, "UNets attend without a mask"
        assert attention.spatial_norm is None, "UNets have no spatial norm"
        assert attention.group_norm is None, "a UNet's transformer blocks norm by layer"
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attention.norm_cross:
            context = attention.norm_encoder_hidden_states(context)
        query = _heads(attention.to_q(hidden_states), attention.heads)
        key = _heads(attention.to_k(context), attention.heads)
        value = _heads(attention.to_v(context), attention.heads)
        if attention.norm_q is not None:
            query = attention.norm_q(query)
        if attention.norm_k is not None:
            key = attention.norm_k(key)
        attended = torch.empty_like(query)
        for picture in range(query.shape[0]):
            for head in range(query.shape[1]):
                part = (slice(picture, picture + 1), slice(head, head + 1))
                attended[part] = functional.scaled_dot_product_attention(
                    query[part], key[part], value[part]
                )
        result: torch.Tensor = attended.transpose(1, 2).flatten(2).to(query.dtype)
        for layer in attention.to_out:
            result = layer(result)
        if attention.residual_connection:
            result = result + hidden_states
        rescaled: torch.Tensor = result / attention.rescale_output_factor
        return rescaled


def _heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """`[batch, tokens, width]` as `[batch, heads, tokens, width / heads]`."""
    batch, tokens, width = states.shape
    return states.view(batch, tokens, heads, width // heads).transpose(1, 2)
