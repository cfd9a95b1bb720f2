"""One attention of a UNet: what diffusers' `AttnProcessor2_0` computes, by any kernel.

The operations and their order are those of that class, in its form without masks and spatial
norms, which is all that a UNet uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Query, key and value, each `[batch, heads, tokens, width]`, to what is attended to."""

Added = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The query, and what was attended to `[batch, tokens, heads * width]`, to that and more."""


def attend_fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """By the kernel that torch chooses."""
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False
    )


def attend_in_slices(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """One head of one picture at a time: the same numbers, with scores of `[tokens, tokens]`
    in memory where there are `[batch, heads, tokens, tokens]` without fused attention."""
    attended = torch.empty_like(query)
    for picture in range(query.shape[0]):
        for head in range(query.shape[1]):
            part = (slice(picture, picture + 1), slice(head, head + 1))
            attended[part] = functional.scaled_dot_product_attention(
                query[part], key[part], value[part]
            )
    return attended


def in_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """`[batch, ..., width]` as `[batch, heads, tokens, width / heads]`."""
    batch, width = states.shape[0], states.shape[-1]
    return states.view(batch, -1, heads, width // heads).transpose(1, 2)


def out_of_heads(attended: torch.Tensor, data_type: torch.dtype) -> torch.Tensor:
    """`[batch, heads, tokens, width]` as `[batch, tokens, heads * width]`."""
    return attended.transpose(1, 2).flatten(2).to(data_type)


def attention_of(
    attention: Any,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor | None,
    attend: Attend,
    added: Added | None = None,
) -> torch.Tensor:
    """What an attention gives: `[batch, tokens, width]` in and out.

    Args:
        attention: diffusers' `Attention` of a UNet's transformer block.
        hidden_states: Of the picture.
        encoder_hidden_states: Of what it attends to; None: to itself.
        attend: The kernel.
        added: Adds to what was attended to, before it is projected.
    """
    assert attention.spatial_norm is None, "UNets have no spatial norm"
    assert attention.group_norm is None, "a UNet's transformer blocks norm by layer"
    context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    if encoder_hidden_states is not None and attention.norm_cross:
        context = attention.norm_encoder_hidden_states(context)
    query = in_heads(attention.to_q(hidden_states), attention.heads)
    key = in_heads(attention.to_k(context), attention.heads)
    value = in_heads(attention.to_v(context), attention.heads)
    if attention.norm_q is not None:
        query = attention.norm_q(query)
    if attention.norm_k is not None:
        key = attention.norm_k(key)
    result = out_of_heads(attend(query, key, value), query.dtype)
    if added is not None:
        result = added(query, result)
    for layer in attention.to_out:
        result = layer(result)
    if attention.residual_connection:
        result = result + hidden_states
    rescaled: torch.Tensor = result / attention.rescale_output_factor
    return rescaled
