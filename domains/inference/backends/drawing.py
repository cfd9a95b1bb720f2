"""One generation on a loaded model, from texts to encoded pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from domains.inference.backends.clock import Clock
from domains.inference.backends.control import Control
from domains.inference.backends.decoding import check_latents, finite, non_finite
from domains.inference.backends.denoise import Conditioning, StepState, denoise
from domains.inference.backends.device import data_type_of
from domains.inference.backends.encoding import read_pixels, to_image
from domains.inference.backends.families.registry import family_of
from domains.inference.backends.image_output import ImageOutput
from domains.inference.backends.inpainting import InpaintingSource, encode_masked, takes_masks
from domains.inference.backends.latents import Noise, initial_noise, noise_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loops import PictureLoops
from domains.inference.backends.lora_layers import on_denoiser, on_text_encoders
from domains.inference.backends.masked_picture import MaskedPicture, lay_out
from domains.inference.backends.parts import Parts
from domains.inference.backends.pausing import PictureKeeper, fingerprint_of
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
from domains.inference.backends.through_vae import ThroughVae
from domains.inference.backends.vae_run import Tiling
from domains.inference.backends.ways import Ways
from domains.inference.backends.widening import can_widen, in_float32
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.inference.types import (
    GenerationSettings,
    PrecisionMode,
    SecondPassUpscale,
    resolved,
)
from domains.picture.types import PreparedPicture
from domains.session.jobs import JobContext, WorkPaused
from domains.session.types import (
    ImageDecoded,
    Phase,
    PhaseStarted,
    Preview,
    PreviewSettings,
    StepFinished,
    TextEncoded,
)
from domains.values import Degradation, DegradationKind, ModelOrigin, ModelPart

Source = CleanLatents | InpaintingSource
"""What each image begins with that does not begin with noise."""


@dataclass
class Drawing:
    """Draws every picture of resolved `settings` with `model`, each as if alone.

    `origin` is where the model was. `may_tile` allows a picture to be decoded in tiles
    where memory is short. `picture` is what it starts from, `mask` what of it is redrawn. `job`
    is what all that comes from: a job that goes on after a pause begins where the one before
    it stopped.
    """

    model: LoadedModel
    parts: Parts
    settings: GenerationSettings
    context: JobContext
    clock: Clock
    previews: PreviewSettings
    origin: ModelOrigin
    job: GenerationJob
    may_tile: bool = False
    picture: PreparedPicture | None = None
    mask: PreparedPicture | None = None
    _degradations: list[Degradation] = field(default_factory=list)
    _scene: MaskedPicture | None = None
    _keeper: PictureKeeper | None = None
    _loras_at_work: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self._ways = Ways(self.model, self.parts)
        self._through_vae = ThroughVae(
            self.parts.vae,
            Tiling(self.may_tile, self.settings.vae_tiling),
            self.context.check_stop,
            self._note,
        )

    def run(self) -> GenerationReport | PausedGeneration:
        """Encode the texts once, then draw picture after picture.

        Raises:
            DomainError: As `Engine.generate`.
        """
        try:
            return self._run()
        except WorkPaused:
            kept = self.job.kept_steps if self._keeper is None else self._keeper.keep()
            return PausedGeneration(
                timings=self.clock.timings(),
                degradations=tuple(self._degradations),
                data_types=self._ways.data_types(),
                computed=self._ways.computed(self._degradations),
                kept_steps=kept,
            )

    def _run(self) -> GenerationReport:
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
        if model.plain_attention is not None:
            self._degradations.append(
                Degradation(
                    DegradationKind.ATTENTION_SLICED,
                    "Attention was computed in slices, as the device's profile says.",
                )
            )
        source = None if self.picture is None else self._source(self.picture)
        self._keeper = PictureKeeper(self.job, fingerprint_of(self.job, model))
        controls = [net.network.module for net in self.parts.control_nets]
        denoisers = [model.networks["unet"], *controls]
        with (
            seamless_convolutions(denoisers, self.parts.vae.edges),
            self._loras_at_work as at_work,
        ):
            at_work.enter_context(on_denoiser(model, self.parts.loras))
            for index in range(self.job.first_image, len(self.settings.seeds)):
                self._draw(index, conditionings, source, self._keeper)
        return GenerationReport(
            timings=self.clock.timings(),
            precision=self.settings.precision,
            origin=self.origin,
            data_types=self._ways.data_types(),
            computed=self._ways.computed(self._degradations),
            degradations=tuple(self._degradations),
        )

    def _conditionings(self) -> list[Conditioning]:
        """The texts as each pass reads them."""
        self.context.emit(PhaseStarted(Phase.ENCODING_TEXT))
        with self.clock.time("encode_text"):
            encode = partial(family_of(self.model.plan.architecture).encode_text, self.model)
            texts = [
                with_room(partial(encode, each, self.parts.inversions), self.model.make_room)
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

    def _source(self, picture: PreparedPicture) -> Source:
        """Encode the picture to start from: once, each image samples it for itself."""
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.PREPARING_INPUT))
        with self.clock.time("prepare_input"):
            pixels = read_pixels(picture)
            if self.settings.inpainting is None:
                return self._through_vae.latents(to_image(pixels))
            mask = None if self.mask is None else read_pixels(self.mask)
            self._scene = lay_out(self.settings.inpainting, pixels, mask)
            return encode_masked(
                self._scene,
                self.settings,
                self._through_vae.posterior,
                takes_masks=takes_masks(self.model),
                vae_config=self.parts.vae.config,
                device=self.model.device,
            )

    def _note(self, degradations: Iterable[Degradation]) -> None:
        """Each is reported once, however many pictures it concerns."""
        self._degradations += [new for new in degradations if new not in self._degradations]

    def _draw(
        self,
        index: int,
        conditionings: Sequence[Conditioning],
        source: Source | None,
        keeper: PictureKeeper,
    ) -> None:
        loops, seed = keeper.begin(index), self.settings.seeds[index]
        draw = partial(self._passes, index, seed, conditionings, source, loops)
        latents = self._finite(draw, loops)
        self._begin(Phase.DECODING, index)
        with self.clock.time("decode"):
            pixels = self._through_vae.pixels(latents)
        if self._scene is not None:
            pixels = self._scene.finished(pixels)
        self.context.emit(ImageDecoded(index))
        self._begin(Phase.ENCODING_IMAGE, index)
        with self.clock.time("encode_image"):
            output = ImageOutput(self.settings, self._ways.picture_types())
            encoded, degradations = output.encode(index, seed, pixels)
        self._note(degradations)
        self.context.emit(encoded)
        keeper.finish()

    def _finite(self, draw: Callable[[], torch.Tensor], loops: PictureLoops) -> torch.Tensor:
        """The latents of a picture, drawn anew in float32 if a lower type overflowed."""
        model = self.model
        if not loops.widened:
            latents = draw()
            if finite(latents) or not can_widen(model):
                check_latents(latents)
                return latents
            loops.begin_again(widened=True)
        name = data_type_of(model.unet_numerics.data_type).value
        detail = f"Denoised in float32, as {name} overflowed."
        self._note([Degradation(DegradationKind.DATA_TYPE, detail, ModelPart.DENOISER)])
        loras = partial(on_denoiser, model, self.parts.loras)
        self._loras_at_work.close()  # they are in the lower type
        try:
            with in_float32(model) as roomy:
                if not roomy:
                    raise non_finite()
                with loras():
                    latents = draw()
        finally:
            self._loras_at_work.enter_context(loras())
        check_latents(latents)
        return latents

    def _passes(
        self,
        index: int,
        seed: int,
        conditionings: Sequence[Conditioning],
        source: Source | None,
        loops: PictureLoops,
    ) -> torch.Tensor:
        """The latents that the last pass comes to, or the first that are not finite."""
        kept = loops.kept_steps  # told once, with the first pass
        first, *others = zip(self.settings.passes, conditionings, strict=True)
        self._begin(Phase.DENOISING, index, kept)
        with self.clock.time("denoise"):
            latents = self._denoise(index, seed, *first, source, loops)
        for settings, conditioning in others:
            if finite(latents):
                larger = self._enlarged(index, latents, settings)
                self._begin(Phase.SECOND_PASS, index)
                with self.clock.time("denoise"):
                    latents = self._denoise(index, seed, settings, conditioning, larger, loops)
        return latents

    def _begin(self, phase: Phase, index: int, kept_steps: int = 0) -> None:
        self.context.check_stop()
        self.context.emit(PhaseStarted(phase, index, kept_steps))

    def _enlarged(
        self, index: int, latents: torch.Tensor, settings: GenerationSettings
    ) -> CleanLatents:
        """What the second pass starts from, in the size of its settings."""
        size, through = settings.size, self._through_vae
        if resolved(self.settings.second_pass).upscale is SecondPassUpscale.LATENT:
            return through.larger_latents(latents, *size)
        self._begin(Phase.PREPARING_INPUT, index)
        with self.clock.time("prepare_input"):
            return through.latents_of_larger(latents, *size)

    def _denoise(
        self,
        index: int,
        seed: int,
        settings: GenerationSettings,
        conditioning: Conditioning,
        source: Source | None,
        loops: PictureLoops,
    ) -> torch.Tensor:
        model, noise = self.model, noise_of(seed, settings.variation)
        scheduler = build_scheduler(
            settings.scheduler,
            model.plan.scheduler_config,
            steps=settings.steps,
            skipped=settings.skipped_steps,
        )
        start = self._start(settings, scheduler, noise, source)
        began = time.perf_counter()

        def on_step(state: StepState) -> None:
            nonlocal began
            took = time.perf_counter() - began
            self.context.emit(StepFinished(index, state.step, state.steps, took))
            preview = self._preview(index, settings, state, scheduler)
            if preview is not None:
                self.context.emit(preview)
            began = time.perf_counter()

        return denoise(
            self._ways.denoiser(tuple(start.latents.shape)),
            scheduler,
            start,
            conditioning.to(model.unet_numerics.data_type),
            settings.guidance,
            device=model.device,
            numerics=model.unet_numerics,
            step_options=step_options(scheduler, settings.scheduler, noise.generator),
            on_step=on_step,
            check_stop=self.context.check_stop,
            make_room=model.make_room,
            loop=loops.next(scheduler, noise.generator, model.device),
            addition=Control(
                self.parts.control_nets,
                index,
                model.unet_numerics.data_type,
                self.context.check_stop,
            ),
        )

    def _start(
        self,
        settings: GenerationSettings,
        scheduler: Any,
        noise: Noise,
        source: Source | None,
    ) -> Start:
        model = self.model
        if isinstance(source, InpaintingSource):
            return source.start(scheduler, noise)
        if source is not None:
            return from_latents(
                scheduler,
                source(noise),
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
