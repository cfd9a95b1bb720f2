"""Prompts to what SDXL's UNet is conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.train.parts.base import BaseModel

LENGTH = 77


@dataclass(frozen=True)
class TextConditioning:
    """states: [B, 77, 320], both encoders' penultimate layers; pooled: [B, 192]."""

    states: Tensor
    pooled: Tensor


def tokens(tokenizer: object, prompts: Sequence[str]) -> Tensor:
    """Token ids, int64 [B, 77] on the CPU, padded and cut to CLIP's length."""
    ids = tokenizer(  # type: ignore[operator]
        list(prompts), padding="max_length", max_length=LENGTH, truncation=True
    ).input_ids
    return torch.tensor(ids, dtype=torch.int64)


class SdxlText:
    """SDXL's two text encoders as one, as `StableDiffusionXLPipeline.encode_prompt` uses them.

    Differentiable wherever the encoders ask for gradients.
    """

    def __init__(self, base: BaseModel) -> None:
        self._first, self._second = base.text_encoder, base.text_encoder_2
        self._tokenizer = base.tokenizer
        self._nothing = tokens(base.tokenizer, [""])

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Token ids, int64 [B, 77], on the encoders' device."""
        return tokens(self._tokenizer, prompts).to(self._first.device)

    def encode(self, prompts: Sequence[str]) -> TextConditioning:
        """The conditioning of each prompt."""
        return self.encode_tokens(self.tokens(prompts))

    def encode_tokens(self, ids: Tensor) -> TextConditioning:
        """The same from token ids, int64 [B, 77], for prompts that are encoded many times."""
        first = self._first(ids, output_hidden_states=True)
        second = self._second(ids, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return TextConditioning(states.float(), second.text_embeds.float())

    def encode_dropped(
        self,
        ids: Tensor,
        empty: float = 0.05,
        zeroed: float = 0.07,
        generator: torch.Generator | None = None,
    ) -> TextConditioning:
        """The conditioning of token ids, int64 [B, 77], some made unconditional at random.

        A share `empty` becomes the empty prompt, a share `zeroed` becomes zeros: SDXL
        pipelines use either for classifier-free guidance (`force_zeros_for_empty_prompt`).
        `generator` lies on the ids' device.
        """
        draw = torch.rand(len(ids), device=ids.device, generator=generator)
        given = self.encode_tokens(
            torch.where((draw < empty)[:, None], self._nothing.to(ids.device), ids)
        )
        kept = (draw < 1 - zeroed)[:, None]
        return TextConditioning(given.states * kept[:, None], given.pooled * kept)


def time_ids(count: int, device: torch.device | str) -> Tensor:
    """SDXL's size conditioning, float32 [B, 6]: original size, crop corner, target size."""
    sizes = torch.tensor([[256.0, 256.0, 0.0, 0.0, 256.0, 256.0]], device=device)
    return sizes.repeat(count, 1)
