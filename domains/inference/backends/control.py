"""ControlNets at work: what they add to the UNet's blocks while a picture forms.

The formulas and their order are those of diffusers' pipelines (StableDiffusion(XL)ControlNet,
StableDiffusionXLControlNetUnion and their img2img), its `ControlNetModel`,
`ControlNetUnionModel` and `MultiControlNetModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn import functional

from domains.inference.backends.control_arguments import control_arguments
from domains.inference.backends.denoise import Conditioning
from domains.inference.backends.encoding import to_levels
from domains.inference.backends.images import Pixels
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.inference.jobs import ControlPictures
from domains.inference.types import ControlNetGuidance, asked_together
from domains.picture.backends.prepared import read_pixels
from domains.picture.types import PreparedPicture
from domains.session.jobs import WorkPaused


@dataclass(frozen=True)
class Residuals:
    """What is added to the outputs of a UNet's lower blocks and of its middle."""

    blocks: list[torch.Tensor]
    middle: torch.Tensor

    def to(self, data_type: torch.dtype) -> Residuals:
        """The same in another type."""
        return Residuals(
            [each.to(data_type) for each in self.blocks], self.middle.to(data_type)
        )

    def for_unet(self) -> dict[str, Any]:
        """As arguments of diffusers' UNet."""
        return {
            "down_block_additional_residuals": self.blocks,
            "mid_block_additional_residual": self.middle,
        }

    def plus(self, other: Residuals) -> Residuals:
        """Those of two ControlNets."""
        pairs = zip(self.blocks, other.blocks, strict=True)
        return Residuals([one + two for one, two in pairs], self.middle + other.middle)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Residuals:
        """The same with all of them changed."""
        return Residuals([change(each) for each in self.blocks], change(self.middle))


@dataclass(frozen=True)
class ControlNet:
    """A loaded ControlNet, how it shall work, and its pictures, of whose pixels `part_of` says
    which are drawn."""

    network: LoadedNetwork
    guidance: ControlNetGuidance
    pictures: ControlPictures
    part_of: Callable[[Pixels], Pixels] = lambda pixels: pixels

    @property
    def guesses(self) -> bool:
        """Whether it works on the conditional half alone: always where it was trained to give
        means over the whole picture."""
        return self.guidance.guess_mode or bool(self._config.global_pool_conditions)

    @property
    def _config(self) -> Any:
        return self.network.module.config

    def works_in(self, call: int, calls: int) -> bool:
        """Whether call number `call` of `calls` lies within its share of the steps."""
        guidance = self.guidance
        if guidance.conditioning_scale == 0:
            return False
        return call / calls >= guidance.start and (call + 1) / calls <= guidance.end

    def image_for(self, index: int) -> torch.Tensor:
        """The control picture of the picture `index`, on the device in the network's type:
        `[1, 3, height, width]`, 0 to 1."""
        images = self.pictures.images
        image = self._levels(images[index if len(images) > 1 else 0])
        # Not a plain copy: how the numbers lie in memory decides how they are rounded.
        image = image.repeat_interleave(1, dim=0)
        return image.to(device=self.network.device, dtype=self.network.numerics.data_type)

    def mask(self) -> torch.Tensor | None:
        """Where it works, float32 `[1, 1, height, width]` on the device; None: everywhere."""
        if self.pictures.mask is None:
            return None
        return self._levels(self.pictures.mask)[:, :1].to(self.network.device)

    def drawing(self, size: tuple[int, int], part_of: Callable[[Pixels], Pixels]) -> ControlNet:
        """The same in a pass of that width and height, which draws that part of a picture."""
        return replace(self, pictures=self.pictures.of_size(size), part_of=part_of)

    def _levels(self, picture: PreparedPicture) -> torch.Tensor:
        return to_levels(self.part_of(read_pixels(picture)))


@dataclass(frozen=True)
class _Call:
    """What is one call of a network: a ControlNet and its picture, or a union and all of its.

    A union's pictures of which a call is not the share are in it with a strength of 0.
    """

    nets: Sequence[ControlNet]
    images: Sequence[torch.Tensor]
    mask: torch.Tensor | None
    masks: dict[torch.Size, torch.Tensor] = field(default_factory=dict)

    def works_in(self, call: int, calls: int) -> bool:
        return any(net.works_in(call, calls) for net in self.nets)

    def residuals(
        self,
        call: int,
        calls: int,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning,
    ) -> Residuals:
        scales = [
            net.guidance.conditioning_scale if net.works_in(call, calls) else 0.0
            for net in self.nets
        ]
        if conditioning.guided and self.nets[0].guesses:
            half, with_prompt = sample.chunk(2)[1], conditioning.prompt_alone()
            found = self._called(scales, half, timestep, with_prompt)
            found = found.each(lambda one: torch.cat([torch.zeros_like(one), one]))
        else:
            found = self._called(scales, sample, timestep, conditioning)
        return found if self.mask is None else found.each(self._masked)

    def _called(
        self,
        scales: list[float],
        sample: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning,
    ) -> Residuals:
        """The network's answer for a sample as the UNet gets it."""
        network, rows = self.nets[0].network, sample.shape[0]
        data_type = network.numerics.data_type
        images = [torch.cat([each] * rows) if rows > 1 else each for each in self.images]
        types = [net.guidance.control_type for net in self.nets]
        blocks, middle = network.module(
            sample.to(data_type),
            timestep,
            encoder_hidden_states=conditioning.hidden_states.to(data_type),
            **control_arguments(network.module, images, scales, types),
            guess_mode=self.nets[0].guesses,
            added_cond_kwargs=conditioning.added or None,
            return_dict=False,
        )
        return Residuals(list(blocks), middle)

    def _masked(self, residual: torch.Tensor) -> torch.Tensor:
        """Less of it where the mask is dark, each of whose pixels there is the mean of many."""
        size = residual.shape[-2:]
        if size not in self.masks:
            assert self.mask is not None
            self.masks[size] = functional.interpolate(self.mask, size=size, mode="area")
        return residual * self.masks[size].to(residual.dtype)


class Control:
    """The ControlNets of one picture.

    Args:
        nets: In the order in which they are added up.
        index: Which picture is drawn.
        data_type: What the UNet computes in.
        check_stop: Called before each call of one; may raise to stop.
    """

    def __init__(
        self,
        nets: Sequence[ControlNet],
        index: int,
        data_type: torch.dtype,
        check_stop: Callable[[], None],
    ) -> None:
        together = asked_together([net.guidance for net in nets])
        groups = [[nets[place] for place in places] for places in together]
        self._calls = tuple(
            _Call(each, [net.image_for(index) for net in each], each[0].mask())
            for each in groups
        )
        self._data_type = data_type
        self._check_stop = check_stop

    def __call__(
        self,
        call: int,
        calls: int,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning,
    ) -> dict[str, Any]:
        """What the UNet gets beside its usual inputs in call number `call` of `calls`.

        Args:
            call: From 0.
            calls: Of the picture, skipped steps not counted.
            sample: float32 `[batch, channels, height, width]`, scaled for the timestep.
            timestep: One number.
            conditioning: Of the same batch.
        """
        total: Residuals | None = None
        for one in self._calls:
            if one.works_in(call, calls):
                with suppress(WorkPaused):  # a pause waits for the step to end
                    self._check_stop()
                found = one.residuals(call, calls, sample, timestep, conditioning)
                total = found if total is None else total.plus(found)
        return {} if total is None else total.to(self._data_type).for_unet()
