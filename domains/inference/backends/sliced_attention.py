"""Attention in slices: the same numbers with a smaller table of scores in memory."""

from __future__ import annotations

from typing import Any

import torch

from domains.inference.backends.attention import attend_in_slices, attention_of


class SlicedAttention:
    """An attention processor for diffusers' `Attention`, one head of one picture at a time.

    For devices without fused attention, where the scores are what takes the memory.
    """

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `attention_of`."""
        assert attention_mask is None, "UNets attend without a mask"
        return attention_of(attention, hidden_states, encoder_hidden_states, attend_in_slices)
