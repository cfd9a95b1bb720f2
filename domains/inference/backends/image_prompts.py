"""Pictures read as prompts (IP-Adapter): from their pixels to what a step gets of them.

The operations and their order are those of diffusers' pipelines
(`prepare_ip_adapter_image_embeds`) and its `MultiIPAdapterImageProjection`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from domains.inference.backends.clip_picture import to_clip
from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.image_attention import ImageTokens, Masks
from domains.inference.backends.images import Pixels
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.inference.jobs import ImagePromptPictures
from domains.inference.types import ImagePrompt
from domains.model.backends.image_prompt_adapter import ImagePromptAdapter
from domains.picture.backends.prepared import read_pixels


@dataclass(frozen=True)
class LoadedImagePrompt:
    """An image prompt with its adapter, what reads pictures for it, and its pictures."""

    prompt: ImagePrompt
    adapter: LoadedNetwork
    encoder: LoadedNetwork
    pictures: ImagePromptPictures

    @property
    def module(self) -> ImagePromptAdapter:
        """The adapter."""
        module = self.adapter.module
        assert isinstance(module, ImagePromptAdapter)
        return module

    def read(self, *, guided: bool) -> torch.Tensor:
        """What the pictures become.

        Args:
            guided: Whether there is a negative half.

        Returns:
            `[batch, pictures, tokens, width]` on the device in the adapter's type, the negative
            half first.
        """
        encoder: Any = self.encoder.module
        edge = int(encoder.config.image_size)
        pixels = torch.cat([to_clip(read_pixels(each), edge) for each in self.pictures.images])
        pixels = pixels.to(self.encoder.device, self.encoder.numerics.data_type)
        if self.module.reads_hidden_states:
            seen = _hidden(encoder, pixels)
            negative = _hidden(encoder, torch.zeros_like(pixels)) if guided else None
        else:
            seen = encoder(pixels).image_embeds
            negative = torch.zeros_like(seen) if guided else None
        halves = torch.stack([seen] if negative is None else [negative, seen])
        halves = halves.to(self.adapter.numerics.data_type)
        tokens: torch.Tensor = self.module.projection(halves.flatten(0, 1))
        return tokens.reshape(*halves.shape[:2], *tokens.shape[1:])

    def works_in(self, call: int, calls: int) -> bool:
        """Whether call number `call` of `calls` lies within its share of the steps."""
        return call / calls >= self.prompt.start and (call + 1) / calls <= self.prompt.end


def _hidden(encoder: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The encoder's states before its last layer: `[pictures, places, width]`."""
    hidden: torch.Tensor = encoder(pixels, output_hidden_states=True).hidden_states[-2]
    return hidden


@dataclass(frozen=True)
class ReadPrompts:
    """Image prompts and what their pictures have become, for every picture that is drawn."""

    prompts: Sequence[LoadedImagePrompt] = ()
    states: Sequence[torch.Tensor] = ()

    @classmethod
    def of(cls, prompts: Sequence[LoadedImagePrompt], *, guided: bool) -> ReadPrompts:
        """Read the pictures of all of them."""
        return cls(prompts, [each.read(guided=guided) for each in prompts])

    def in_pass(
        self,
        size: tuple[int, int],
        part_of: Callable[[Pixels], Pixels],
        latents: tuple[int, ...],
        levels: int,
    ) -> ImagePrompts:
        """How they work in a pass.

        Args:
            size: Width and height of what it draws.
            part_of: Which part of a picture of that size is drawn.
            latents: The shape of its latents.
            levels: Sizes in which the UNet looks at them, each half as large.
        """
        masks: list[Masks | None] = []
        for each, states in zip(self.prompts, self.states, strict=True):
            mask = each.pictures.mask_of(size)
            if mask is None:
                masks.append(None)
                continue
            by_places = _by_places(part_of(read_pixels(mask)), latents, levels)
            masks.append({count: one.to(states) for count, one in by_places.items()})
        return ImagePrompts(self.prompts, self.states, masks)


def _by_places(mask: Pixels, latents: tuple[int, ...], levels: int) -> Masks:
    """A mask by how many places a layer looks at: float32 `[1, places, 1]` on the CPU."""
    binary = torch.from_numpy((mask[..., :1] if mask.ndim == 3 else mask[..., None]) >= 128)
    whole = binary.to(torch.float32).permute(2, 0, 1)[None]
    height, width = latents[-2:]
    found = {}
    for _ in range(levels):
        smaller = functional.interpolate(whole, size=(height, width), mode="bicubic")
        found[height * width] = smaller.view(1, -1, 1)
        height, width = -(-height // 2), -(-width // 2)
    return found


class ImagePrompts:
    """An `Addition`: what a call of the UNet gets of image prompts.

    Args:
        prompts: In the order of their adapters.
        states: What their pictures have become.
        masks: Where they work, see `ImageTokens`.
    """

    def __init__(
        self,
        prompts: Sequence[LoadedImagePrompt],
        states: Sequence[torch.Tensor],
        masks: Sequence[Masks | None],
    ) -> None:
        self._prompts = prompts
        self._states = states
        self._masks = masks

    def __call__(
        self,
        call: int,
        calls: int,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning,
    ) -> dict[str, Any]:
        """See `denoise.Addition`; without one that works, texts alone are attended to."""
        text = conditioning.hidden_states
        scales = [
            each.prompt.scale if each.works_in(call, calls) else 0.0 for each in self._prompts
        ]
        if not any(scales):
            return {}

        def tokens(states: torch.Tensor, scale: float, masks: Masks | None) -> ImageTokens:
            own = states[-text.shape[0] :].to(text.dtype)
            if masks is None:
                return ImageTokens(own, scale)
            return ImageTokens(own, scale, {n: one.to(text) for n, one in masks.items()})

        images = tuple(map(tokens, self._states, scales, self._masks))
        return {"encoder_hidden_states": (text, images)}
