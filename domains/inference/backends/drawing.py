"""One generation on a loaded model, from texts to encoded pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from domains.inference.backends.clock import Clock
from domains.inference.backends.control import Control
from domains.inference.backends.decoding import check_latents, decode_pixels, finite
from domains.inference.backends.denoise import Conditioning, StepState, denoise
from domains.inference.backends.device import data_type_of
from domains.inference.backends.encoding import encode_picture, read_picture
from domains.inference.backends.families.registry import family_of
from domains.inference.backends.image_output import ImageOutput
from domains.inference.backends.latents import initial_noise, seeded_generator
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loops import PictureLoops
from domains.inference.backends.lora_layers import on_denoiser, on_text_encoders
from domains.inference.backends.parts import Parts
from domains.inference.backends.pausing import PictureKeeper, fingerprint_of
from domains.inference.backends.previews import (
    draw_preview,
    estimate_clean,
    fit_preview_matrix,
)
from domains.inference.backends.refining import Begun, Refining
from domains.inference.backends.schedulers import build_scheduler, step_options
from domains.inference.backends.second_try import with_room
from domains.inference.backends.speed import settle_numerics
from domains.inference.backends.start import Posterior, Start, from_latents, from_noise
from domains.inference.backends.vae import scale_latents
from domains.inference.backends.vae_run import Tiling
from domains.inference.backends.ways import Ways
from domains.inference.backends.widening import can_widen, in_float32
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.inference.types import GenerationSettings, PrecisionMode
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


@dataclass
class Drawing:
    """Draws every picture of resolved `settings` with `model`, each as if alone.

    `origin` is where the model was. `may_tile` allows a picture to be decoded in tiles
    where memory is short. `picture` is what image-to-image starts from. `job` is what all that
    comes from: a job that goes on after a pause begins where the one before it stopped.
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
    _degradations: list[Degradation] = field(default_factory=list)
    _keeper: PictureKeeper | None = None
    _loras_at_work: ExitStack = field(default_factory=ExitStack)
    _step_began: float = 0.0

    def __post_init__(self) -> None:
        self._ways = Ways(self.model, self.parts)

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
            conditioning = self._conditioning()
        if self.settings.precision is PrecisionMode.FASTEST and not model.measured:
            width, height = self.settings.size
            with self.clock.time("load"):
                settle_numerics(
                    model,
                    conditioning,
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
        posterior = None if self.picture is None else self._encoded(self.picture)
        refining = self._refining()
        with self._loras_at_work as at_work:
            at_work.enter_context(on_denoiser(model, self.parts.loras))
            for together in self._portions(refining):
                begun = [self._begin(index, conditioning, posterior) for index in together]
                if refining is not None:
                    if refining.waits:
                        at_work.close()  # nothing may hold on to the UNet that gives way
                    refining.prepare()
                for each in begun:
                    self._step_began = time.perf_counter()
                    self._finish(each if refining is None else refining.refine(each))
        return GenerationReport(
            timings=self.clock.timings(),
            precision=self.settings.precision,
            origin=self.origin,
            data_types=self._ways.data_types(),
            computed=self._ways.computed(self._degradations),
            degradations=tuple(self._degradations),
        )

    def _refining(self) -> Refining | None:
        part = self.parts.refiner
        if part is None:
            return None
        return Refining(
            part, self.settings, self.context, self.clock, self._on_step, self._note
        )

    def _portions(self, refining: Refining | None) -> list[range]:
        """Pictures one by one; all of them begun first where the refiner has to wait until
        nothing more is to be begun. A pause keeps a picture's steps only when they go one by
        one."""
        first, count = self.job.first_image, len(self.settings.seeds)
        if refining is not None and refining.waits:
            return [range(first, count)]
        self._keeper = PictureKeeper(self.job, fingerprint_of(self.job, self.model))
        return [range(index, index + 1) for index in range(first, count)]

    def _conditioning(self) -> Conditioning:
        self.context.emit(PhaseStarted(Phase.ENCODING_TEXT))
        with self.clock.time("encode_text"):
            family = family_of(self.model.plan.architecture)
            encode = partial(family.encode_text, self.model, self.settings)
            text = with_room(encode, self.model.make_room)
        self.context.emit(TextEncoded(text.cached))
        if text.lost_tokens:
            self._degradations.append(
                Degradation(
                    DegradationKind.PROMPT_TRUNCATED,
                    f"The last {text.lost_tokens} tokens did not fit and had no effect.",
                )
            )
        return text.conditioning

    def _encoded(self, picture: PreparedPicture) -> Posterior:
        """Encode the picture to start from: once, each image samples it for itself."""
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.PREPARING_INPUT))
        with self.clock.time("prepare_input"):
            posterior, degradations = encode_picture(
                self.parts.vae,
                read_picture(picture),
                check_stop=self.context.check_stop,
                tiling=self._tiling,
            )
        self._note(degradations)
        return posterior

    @property
    def _tiling(self) -> Tiling:
        return Tiling(self.may_tile, self.settings.vae_tiling)

    def _note(self, degradations: Iterable[Degradation]) -> None:
        """Each is reported once, however many pictures it concerns."""
        self._degradations += [new for new in degradations if new not in self._degradations]

    def _begin(
        self, index: int, conditioning: Conditioning, posterior: Posterior | None
    ) -> Begun:
        """Denoise a picture as far as the model does."""
        self.context.check_stop()
        loops = PictureLoops() if self._keeper is None else self._keeper.begin(index)
        self.context.emit(PhaseStarted(Phase.DENOISING, index, loops.kept_steps))
        generator = seeded_generator(self.settings.seeds[index])

        def draw() -> torch.Tensor:
            generator.manual_seed(self.settings.seeds[index])
            return self._denoise(index, generator, conditioning, posterior, loops)

        with self.clock.time("denoise"):
            latents = self._finite(draw, loops)
        return Begun(index, latents, generator, loops)

    def _finish(self, begun: Begun) -> None:
        """Make a file of a picture's finished latents."""
        index, latents, seed = begun.index, begun.latents, self.settings.seeds[begun.index]
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.DECODING, index))
        with self.clock.time("decode"):
            pixels, degradations = decode_pixels(
                self.parts.vae,
                latents,
                check_stop=self.context.check_stop,
                tiling=self._tiling,
            )
        self._note(degradations)
        self.context.emit(ImageDecoded(index))
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.ENCODING_IMAGE, index))
        with self.clock.time("encode_image"):
            output = ImageOutput(self.settings, self._ways.picture_types())
            encoded, degradations = output.encode(index, seed, pixels)
        self._note(degradations)
        self.context.emit(encoded)
        if self._keeper is not None:
            self._keeper.finish()

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
            with in_float32(model), loras():
                latents = draw()
        finally:
            self._loras_at_work.enter_context(loras())
        check_latents(latents)
        return latents

    def _denoise(
        self,
        index: int,
        generator: torch.Generator,
        conditioning: Conditioning,
        posterior: Posterior | None,
        loops: PictureLoops,
    ) -> torch.Tensor:
        settings, model = self.settings, self.model
        scheduler = build_scheduler(
            settings.scheduler,
            model.plan.scheduler_config,
            steps=settings.steps,
            skipped=settings.skipped_steps,
        )
        start, refined = self._start(scheduler, generator, posterior), 0
        if self.parts.refiner is not None:
            division = self.parts.refiner.division
            start = replace(start, end=division.end, steps=division.own_steps)
            refined = division.refiner_steps
        self._step_began = time.perf_counter()

        def on_step(state: StepState) -> None:
            self._on_step(index, replace(state, steps=state.steps + refined), scheduler)

        return denoise(
            self._ways.denoiser(tuple(start.latents.shape)),
            scheduler,
            start,
            conditioning.to(model.unet_numerics.data_type),
            settings.guidance,
            device=model.device,
            numerics=model.unet_numerics,
            step_options=step_options(scheduler, settings.scheduler, generator),
            on_step=on_step,
            check_stop=self.context.check_stop,
            make_room=model.make_room,
            loop=loops.next(scheduler, generator, model.device),
            addition=Control(
                self.parts.control_nets,
                index,
                model.unet_numerics.data_type,
                self.context.check_stop,
            ),
        )

    def _on_step(self, index: int, state: StepState, scheduler: Any) -> None:
        took = time.perf_counter() - self._step_began
        self.context.emit(StepFinished(index, state.step, state.steps, took))
        preview = self._preview(index, state, scheduler)
        if preview is not None:
            self.context.emit(preview)
        self._step_began = time.perf_counter()

    def _start(
        self, scheduler: Any, generator: torch.Generator, posterior: Posterior | None
    ) -> Start:
        settings, model = self.settings, self.model
        if posterior is not None:
            clean = scale_latents(posterior.sample(generator), self.parts.vae.config)
            return from_latents(
                scheduler,
                clean,
                generator,
                steps=settings.steps,
                skipped=settings.skipped_steps,
            )
        width, height = settings.size
        noise = initial_noise(
            channels=model.plan_config("unet")["in_channels"],
            height=height,
            width=width,
            scale=model.pixels_per_latent,
            generator=generator,
        )
        return from_noise(scheduler, noise, steps=settings.steps)

    def _preview(self, index: int, state: StepState, scheduler: Any) -> Preview | None:
        wanted = self.previews
        if wanted.every_steps <= 0 or state.step % wanted.every_steps:
            return None
        holder = self.parts.vae.holder
        if holder.preview_matrix is None:
            holder.preview_matrix = fit_preview_matrix(self.parts.vae)
        width, height = self.settings.size
        return draw_preview(
            estimate_clean(state, scheduler),
            holder.preview_matrix,
            image_index=index,
            step=state.step,
            width=width,
            height=height,
            max_edge=wanted.max_edge_pixels,
        )
