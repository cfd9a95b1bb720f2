"""One generation on a loaded model, from texts to encoded pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from domains.inference.backends.clock import Clock
from domains.inference.backends.decoding import check_latents, decode_pixels
from domains.inference.backends.denoise import Conditioning, Guidance, StepState, denoise
from domains.inference.backends.device import data_type_of
from domains.inference.backends.encoding import encode_picture, from_pixels, read_picture
from domains.inference.backends.enlarging import enlarge_latents, enlarge_pixels
from domains.inference.backends.families.registry import family_of
from domains.inference.backends.image_output import ImageOutput
from domains.inference.backends.images import Pixels
from domains.inference.backends.latents import Noise, initial_noise, noise_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.lora_layers import on_denoiser, on_text_encoders
from domains.inference.backends.parts import Parts
from domains.inference.backends.previews import (
    draw_preview,
    estimate_clean,
    fit_preview_matrix,
)
from domains.inference.backends.schedulers import build_scheduler, step_options
from domains.inference.backends.seamless import seamless_convolutions
from domains.inference.backends.second_try import with_room
from domains.inference.backends.speed import settle_numerics
from domains.inference.backends.start import CleanLatents, Start, from_latents, from_noise
from domains.inference.backends.vae import scale_latents
from domains.inference.backends.vae_run import Tiling
from domains.inference.jobs import GenerationReport
from domains.inference.types import (
    GenerationSettings,
    PrecisionMode,
    SecondPassUpscale,
    resolved,
)
from domains.picture.types import PreparedPicture
from domains.session.jobs import JobContext
from domains.session.types import (
    ImageDecoded,
    Phase,
    PhaseStarted,
    Preview,
    PreviewSettings,
    StepFinished,
    TextEncoded,
)
from domains.values import Degradation, DegradationKind, ModelOrigin, ModelPart, PartDataType


@dataclass
class Drawing:
    """Draws every picture of resolved `settings` with `model`, each as if alone.

    `origin` is where the model was. `may_tile` allows a picture to be decoded in tiles
    where memory is short. `picture` is what image-to-image starts from.
    """

    model: LoadedModel
    parts: Parts
    settings: GenerationSettings
    context: JobContext
    clock: Clock
    previews: PreviewSettings
    origin: ModelOrigin
    may_tile: bool = False
    picture: PreparedPicture | None = None
    _degradations: list[Degradation] = field(default_factory=list)

    def run(self) -> GenerationReport:
        """Encode the texts once, then draw picture after picture.

        Raises:
            DomainError: As `Engine.generate`.
        """
        model = self.model
        with on_text_encoders(model, self.parts.loras):
            conditionings = self._conditionings()
        if self.settings.precision is PrecisionMode.FASTEST and not model.measured:
            width, height = self.settings.size
            with self.clock.time("load"):
                settle_numerics(
                    model,
                    conditionings[0],
                    width=width,
                    height=height,
                    check_stop=self.context.check_stop,
                )
        conditionings = [each.to(model.unet_numerics.data_type) for each in conditionings]
        if model.plain_attention is not None:
            self._degradations.append(
                Degradation(
                    DegradationKind.ATTENTION_SLICED,
                    "Attention was computed in slices, as the device's profile says.",
                )
            )
        clean = None if self.picture is None else self._encoded(self.picture)
        unet = model.networks["unet"]
        with (
            on_denoiser(model, self.parts.loras),
            seamless_convolutions([unet], self.parts.vae.edges),
        ):
            for index, seed in enumerate(self.settings.seeds):
                self._draw(index, seed, conditionings, clean)
        return GenerationReport(
            timings=self.clock.timings(),
            precision=self.settings.precision,
            origin=self.origin,
            data_types=self._data_types,
            channels_last=model.unet_numerics.channels_last,
            degradations=tuple(self._degradations),
        )

    def _conditionings(self) -> list[Conditioning]:
        """The texts as each pass reads them."""
        self.context.emit(PhaseStarted(Phase.ENCODING_TEXT))
        with self.clock.time("encode_text"):
            encode = partial(family_of(self.model.plan.architecture).encode_text, self.model)
            texts = [
                with_room(partial(encode, each), self.model.make_room)
                for each in self.settings.passes
            ]
        self.context.emit(TextEncoded(all(text.cached for text in texts)))
        if texts[0].lost_tokens:
            self._degradations.append(
                Degradation(
                    DegradationKind.PROMPT_TRUNCATED,
                    f"The last {texts[0].lost_tokens} tokens did not fit and had no effect.",
                )
            )
        return [text.conditioning for text in texts]

    def _encoded(self, picture: PreparedPicture) -> CleanLatents:
        """Encode the picture to start from: once, each image samples it for itself."""
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.PREPARING_INPUT))
        with self.clock.time("prepare_input"):
            return self._latents_of(read_picture(picture))

    def _latents_of(self, image: torch.Tensor) -> CleanLatents:
        """What the VAE makes of a picture."""
        posterior, degradations = encode_picture(
            self.parts.vae,
            image,
            check_stop=self.context.check_stop,
            tiling=self._tiling,
        )
        self._note(degradations)
        return lambda noise: scale_latents(posterior.sample(noise), self.parts.vae.config)

    @property
    def _data_types(self) -> tuple[PartDataType, ...]:
        """What the networks compute in that were used."""
        vae = PartDataType(ModelPart.VAE, data_type_of(self.parts.vae.numerics.data_type))
        return tuple(
            vae if each.part is ModelPart.VAE else each for each in self.model.data_types()
        )

    @property
    def _tiling(self) -> Tiling:
        return Tiling(self.may_tile, self.settings.vae_tiling)

    def _note(self, degradations: Iterable[Degradation]) -> None:
        """Each is reported once, however many pictures it concerns."""
        self._degradations += [new for new in degradations if new not in self._degradations]

    def _draw(
        self,
        index: int,
        seed: int,
        conditionings: Sequence[Conditioning],
        clean: CleanLatents | None,
    ) -> None:
        first, *others = zip(self.settings.passes, conditionings, strict=True)
        latents = self._pass(Phase.DENOISING, index, seed, *first, clean)
        for settings, conditioning in others:
            larger = self._enlarged(index, latents, settings)
            latents = self._pass(Phase.SECOND_PASS, index, seed, settings, conditioning, larger)
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.DECODING, index))
        with self.clock.time("decode"):
            pixels = self._pixels_of(latents)
        self.context.emit(ImageDecoded(index))
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.ENCODING_IMAGE, index))
        with self.clock.time("encode_image"):
            output = ImageOutput(self.settings, self._data_types)
            encoded, degradations = output.encode(index, seed, pixels)
        self._note(degradations)
        self.context.emit(encoded)

    def _pass(
        self,
        phase: Phase,
        index: int,
        seed: int,
        settings: GenerationSettings,
        conditioning: Conditioning,
        clean: CleanLatents | None,
    ) -> torch.Tensor:
        self.context.check_stop()
        self.context.emit(PhaseStarted(phase, index))
        with self.clock.time("denoise"):
            latents = self._denoise(index, seed, settings, conditioning, clean)
            check_latents(latents)
        return latents

    def _enlarged(
        self, index: int, latents: torch.Tensor, settings: GenerationSettings
    ) -> CleanLatents:
        """What the second pass starts from, in the size of its settings."""
        width, height = settings.size
        vae = self.parts.vae
        if resolved(self.settings.second_pass).upscale is SecondPassUpscale.LATENT:
            scale = vae.pixels_per_latent
            size = (height // scale, width // scale)
            larger = enlarge_latents(latents.cpu(), *size, vae.edges)
            return lambda noise: larger
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.PREPARING_INPUT, index))
        with self.clock.time("prepare_input"):
            pixels = enlarge_pixels(self._pixels_of(latents), height, width, vae.edges)
            return self._latents_of(from_pixels(pixels))

    def _pixels_of(self, latents: torch.Tensor) -> Pixels:
        pixels, degradations = decode_pixels(
            self.parts.vae,
            latents,
            check_stop=self.context.check_stop,
            tiling=self._tiling,
        )
        self._note(degradations)
        return pixels

    def _denoise(
        self,
        index: int,
        seed: int,
        settings: GenerationSettings,
        conditioning: Conditioning,
        clean: CleanLatents | None,
    ) -> torch.Tensor:
        model, noise = self.model, noise_of(seed, settings.variation)
        scheduler = build_scheduler(
            settings.scheduler,
            model.plan.scheduler_config,
            steps=settings.steps,
            skipped=settings.skipped_steps,
        )
        start = self._start(settings, scheduler, noise, clean)

        def on_step(state: StepState) -> None:
            self.context.emit(StepFinished(index, state.step, state.steps))
            preview = self._preview(index, settings, state, scheduler)
            if preview is not None:
                self.context.emit(preview)

        return denoise(
            model.unet_call(),
            scheduler,
            start,
            conditioning,
            Guidance(settings.guidance.scale, settings.guidance.rescale),
            device=model.device,
            numerics=model.unet_numerics,
            step_options=step_options(scheduler, settings.scheduler, noise.generator),
            on_step=on_step,
            check_stop=self.context.check_stop,
            make_room=model.make_room,
        )

    def _start(
        self,
        settings: GenerationSettings,
        scheduler: Any,
        noise: Noise,
        clean: CleanLatents | None,
    ) -> Start:
        model = self.model
        if clean is not None:
            return from_latents(
                scheduler,
                clean(noise),
                noise,
                steps=settings.steps,
                skipped=settings.skipped_steps,
            )
        width, height = settings.size
        latents = initial_noise(
            channels=model.plan_config("unet")["in_channels"],
            height=height,
            width=width,
            scale=model.pixels_per_latent,
            noise=noise,
        )
        return from_noise(scheduler, latents, steps=settings.steps)

    def _preview(
        self, index: int, settings: GenerationSettings, state: StepState, scheduler: Any
    ) -> Preview | None:
        wanted = self.previews
        if wanted.every_steps <= 0 or state.step % wanted.every_steps:
            return None
        holder = self.parts.vae.holder
        if holder.preview_matrix is None:
            holder.preview_matrix = fit_preview_matrix(self.parts.vae)
        width, height = settings.size
        return draw_preview(
            estimate_clean(state, scheduler),
            holder.preview_matrix,
            image_index=index,
            step=state.step,
            width=width,
            height=height,
            max_edge=wanted.max_edge_pixels,
            edges=self.parts.vae.edges,
        )
