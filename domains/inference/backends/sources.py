"""What the passes of a generation's pictures start from, and what they keep of a given one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from domains.errors import FieldViolation, InvalidArgument, Reason
from domains.inference.backends.by_upscaler import ByUpscaler
from domains.inference.backends.encoding import to_image
from domains.inference.backends.enlarging import enlarge_pixels
from domains.inference.backends.images import Pixels
from domains.inference.backends.inpainting import (
    InpaintingSource,
    mask_in_latents,
    putting_back,
    takes_masks,
    without_redrawn,
)
from domains.inference.backends.latents import Noise, initial_noise
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.masked_picture import MaskedPicture, lay_out
from domains.inference.backends.masking import Masking
from domains.inference.backends.start import CleanLatents, Start, from_latents, from_noise
from domains.inference.backends.through_vae import ThroughVae
from domains.inference.types import GenerationSettings, Inpainting, RefinerMode, resolved
from domains.picture.backends.prepared import read_pixels
from domains.picture.types import PreparedPicture

Source = CleanLatents | InpaintingSource
"""What a pass begins with that does not begin with noise."""


@dataclass(frozen=True)
class Sources:
    """What pictures of resolved `settings` start from.

    `upscaler` enlarges pictures for the second pass; None: a filter does.
    `first` is what the first pass does, None where that is noise. Inpainting has `scenes`, one
    for each pass. With a UNet that takes masks `larger_masked` is what the second pass shows to
    it, where that is of enlarged latents, and `kept` the picture that a refiner puts back.
    """

    model: LoadedModel
    settings: GenerationSettings
    through_vae: ThroughVae
    upscaler: ByUpscaler | None = None
    first: Source | None = None
    scenes: tuple[MaskedPicture, ...] = ()
    larger_masked: CleanLatents | None = None
    kept: CleanLatents | None = None

    def of_picture(self, picture: PreparedPicture, mask: PreparedPicture | None) -> Sources:
        """The same for a picture to start from: encoded once, each image samples it for itself.

        Raises:
            InvalidArgument: Nothing of it would be redrawn.
            DomainError: As `read_pixels` and `ThroughVae.latents`.
        """
        pixels, how = read_pixels(picture), self.settings.inpainting
        if how is None:
            return replace(self, first=self.through_vae.latents(to_image(pixels)))
        scene = lay_out(how, pixels, None if mask is None else read_pixels(mask))
        if not self._mask(scene).any():
            raise _nothing_redrawn(how)
        others = (each.size for each in self.settings.passes[1:])
        scenes = (scene, *(scene.enlarged(*size, self._enlarged) for size in others))
        masked = kept = None
        if takes_masks(self.model):
            last = scenes[-1]
            image = to_image(last.pixels)
            if len(scenes) > 1 and self._enlarges_latents:
                masked = self.through_vae.latents(without_redrawn(last, image))
            refiner = self.settings.refiner
            if refiner is not None and refiner.mode is RefinerMode.HANDOVER:
                kept = self.through_vae.latents(image)
        first = self._inpainting(scene, to_image(scene.shown()), self.settings)
        return replace(self, first=first, scenes=scenes, larger_masked=masked, kept=kept)

    def larger(
        self, latents: torch.Tensor, settings: GenerationSettings, image_index: int
    ) -> Source:
        """What the second pass starts from.

        Args:
            latents: Those that the first pass came to.
            settings: Of the second pass.
            image_index: Whose.

        Raises:
            DomainError: As `ThroughVae.pixels`, `ThroughVae.latents` and `ByUpscaler.enlarge`.
            Exception: As torch raises it.
        """
        width, height = settings.size
        through = self.through_vae
        if self._enlarges_latents:
            larger = through.larger_latents(latents, width, height)
            if not self.scenes:
                return larger
            return self._source(self.scenes[-1], larger, self.larger_masked)
        pixels = through.pixels(latents)
        if self.scenes:
            pixels = self.scenes[0].finished(pixels)
        image = to_image(self._enlarged(pixels, height, width, image_index))
        if not self.scenes:
            return through.latents(image)
        return self._inpainting(self.scenes[-1], image, settings)

    def start(
        self,
        settings: GenerationSettings,
        scheduler: Any,
        noise: Noise,
        source: Source | None,
    ) -> Start:
        """Where a pass of one picture begins.

        Args:
            settings: Of the pass.
            scheduler: Fresh, set to begin after the skipped steps.
            noise: Its next numbers are used.
            source: What it starts from.
        """
        steps, skipped = settings.steps, settings.skipped_steps
        if isinstance(source, InpaintingSource):
            how = resolved(settings.inpainting)
            return source.start(scheduler, noise, how, steps=steps, skipped=skipped)
        if source is not None:
            clean = source(noise)
            return from_latents(scheduler, clean, noise, steps=steps, skipped=skipped)
        width, height = settings.size
        latents = initial_noise(
            channels=self.model.plan_config("unet")["in_channels"],
            height=height,
            width=width,
            scale=self.model.pixels_per_latent,
            noise=noise,
        )
        return from_noise(scheduler, latents, steps=steps)

    def masking_of_handover(self, latents: torch.Tensor, noise: Noise) -> Masking | None:
        """How a refiner that takes latents over keeps a part of a picture; None: it keeps none.

        As in the pipelines that is the part that they have, put back without noise by the step
        before; of a model that puts nothing back it is the picture's own.
        """
        if not self.scenes:
            return None
        clean = latents if self.kept is None else self.kept(noise)
        mask = self._mask(self.scenes[-1])
        return putting_back(mask, clean, noise.draw(latents.shape), latents.device)

    def start_of_refiner(
        self, scheduler: Any, latents: torch.Tensor, noise: Noise, *, steps: int, skipped: int
    ) -> Start:
        """Where a refiner begins that starts from a finished picture; as `start`.

        Args:
            scheduler: Fresh, set to begin after the skipped steps.
            latents: Of the picture.
            noise: Its next numbers are used.
            steps: Of the refiner's whole schedule.
            skipped: Those of them that are left out.
        """
        clean, refiner = latents.cpu(), resolved(self.settings.refiner)
        if not self.scenes:
            return from_latents(scheduler, clean, noise, steps=steps, skipped=skipped)
        source = replace(
            self._source(self.scenes[-1], lambda _: clean, None), takes_masks=False
        )
        how = resolved(self.settings.inpainting).again(refiner.strength)
        return source.start(scheduler, noise, how, steps=steps, skipped=skipped)

    def part_of(self, pixels: Pixels) -> Pixels:
        """What of a picture belongs to the part that is drawn; uint8 `[height, width, 3]`."""
        return self.scenes[0].part_of(pixels) if self.scenes else pixels

    def finished(self, pixels: Pixels) -> Pixels:
        """What was drawn, uint8 `[height, width, 3]`, with what is kept copied back."""
        return self.scenes[-1].finished(pixels) if self.scenes else pixels

    @property
    def _enlarges_latents(self) -> bool:
        return not resolved(self.settings.second_pass).through_pixels

    def _enlarged(
        self, pixels: Pixels, height: int, width: int, image_index: int | None = None
    ) -> Pixels:
        """A picture in the size of the second pass; `image_index` as `ByUpscaler.enlarge`."""
        through, edges = self.through_vae, self.through_vae.vae.edges
        if self.upscaler is None:
            return enlarge_pixels(pixels, height, width, edges)
        return self.upscaler.enlarge(pixels, height, width, edges, through.note, image_index)

    def _inpainting(
        self, scene: MaskedPicture, image: torch.Tensor, settings: GenerationSettings
    ) -> InpaintingSource:
        """An image, float32 `[1, 3, height, width]`, -1 to 1, encoded for a pass."""
        encode, masks = self.through_vae.latents, takes_masks(self.model)
        needed = not masks or resolved(settings.inpainting).strength < 1
        picture = encode(image) if needed else None
        if masks:
            return self._source(scene, picture, encode(without_redrawn(scene, image)))
        source = self._source(scene, picture, None)
        shape = (1, source.channels, *source.mask.shape[-2:])
        return replace(source, masked=lambda noise: noise.draw(shape))

    def _source(
        self, scene: MaskedPicture, picture: CleanLatents | None, masked: CleanLatents | None
    ) -> InpaintingSource:
        channels = int(self.through_vae.vae.config["latent_channels"])
        device, masks = self.model.device, takes_masks(self.model)
        return InpaintingSource(device, channels, self._mask(scene), picture, masked, masks)

    def _mask(self, scene: MaskedPicture) -> torch.Tensor:
        return mask_in_latents(scene, self.through_vae.vae.pixels_per_latent)


def _nothing_redrawn(how: Inpainting) -> InvalidArgument:
    """A mask that is not black and so narrow that its blur, or the latents, leave nothing."""
    rule = (
        f"Its redrawn part is too narrow: blurred by {how.mask_blur_pixels} pixels it is half"
        " white nowhere that a latent looks, so that nothing would be redrawn. Make it wider,"
        " or mask_blur_pixels less."
    )
    return InvalidArgument.of(
        FieldViolation("inpainting.mask", Reason.FIELD_OUT_OF_RANGE, rule)
    )
