"""One generation on a loaded model, from texts to encoded pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from domains.inference.backends.denoise import Conditioning, Guidance, StepState, denoise
from domains.inference.backends.device import data_type_of
from domains.inference.backends.families.registry import family_of
from domains.inference.backends.finish import check_latents, decode_pixels
from domains.inference.backends.images import encode_image
from domains.inference.backends.latents import initial_noise, seeded_generator
from domains.inference.backends.loaded import LoadedModel
from domains.inference.backends.parameters import full_text, shared_text
from domains.inference.backends.previews import (
    draw_preview,
    estimate_clean,
    fit_preview_matrix,
)
from domains.inference.backends.room import with_room
from domains.inference.backends.schedulers import build_scheduler, step_options
from domains.inference.backends.speed import settle_numerics
from domains.inference.types import (
    GenerationEvent,
    GenerationReport,
    GenerationWork,
    ImageEncoded,
    PrecisionMode,
    Timings,
)
from domains.session.types import (
    ImageDecoded,
    Phase,
    PhaseStarted,
    Preview,
    StepFinished,
    TextEncoded,
)
from domains.values import Degradation, DegradationKind


class Clock:
    """Adds up seconds per phase; the names are those of `Timings`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Count the time inside towards `phase`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            self._seconds[phase] = self._seconds.get(phase, 0.0) + elapsed

    def timings(self) -> Timings:
        """What came together so far."""
        return Timings(**self._seconds)


@dataclass
class Drawing:
    """Draws every picture of `work` with `model`, each as if alone.

    `may_tile` allows a picture to be decoded in tiles where memory is short.
    """

    model: LoadedModel
    work: GenerationWork
    emit: Callable[[GenerationEvent], None]
    check_stop: Callable[[], None]
    clock: Clock
    may_tile: bool = False
    _degradations: list[Degradation] = field(default_factory=list)

    def run(self) -> GenerationReport:
        """Encode the texts once, then draw picture after picture.

        Raises:
            DomainError: As `Engine.generate`.
        """
        model = self.model
        conditioning = self._conditioning()
        if self.work.precision is PrecisionMode.FASTEST and not model.measured:
            with self.clock.time("load"):
                settle_numerics(
                    model,
                    conditioning,
                    width=self.work.width,
                    height=self.work.height,
                    check_stop=self.check_stop,
                )
        conditioning = conditioning.to(model.unet_numerics.data_type)
        if model.plain_attention is not None:
            self._degradations.append(
                Degradation(
                    DegradationKind.ATTENTION_SLICED,
                    "Attention was computed in slices, as the device's profile says.",
                )
            )
        for index, seed in enumerate(self.work.seeds):
            self._draw(index, seed, conditioning)
        return GenerationReport(
            timings=self.clock.timings(),
            unet_data_type=data_type_of(model.unet_numerics.data_type),
            vae_data_type=data_type_of(model.vae_numerics.data_type),
            channels_last=model.unet_numerics.channels_last,
            degradations=tuple(self._degradations),
        )

    def _conditioning(self) -> Conditioning:
        self.emit(PhaseStarted(Phase.ENCODING_TEXT))
        with self.clock.time("encode_text"):
            family = family_of(self.model.plan.architecture)
            encode = partial(family.encode_text, self.model, self.work)
            text = with_room(encode, self.model.make_room)
        self.emit(TextEncoded(text.cached))
        if text.lost_tokens:
            self._degradations.append(
                Degradation(
                    DegradationKind.PROMPT_TRUNCATED,
                    f"The last {text.lost_tokens} tokens did not fit and had no effect.",
                )
            )
        return text.conditioning

    def _draw(self, index: int, seed: int, conditioning: Conditioning) -> None:
        self.emit(PhaseStarted(Phase.DENOISING, index))
        with self.clock.time("denoise"):
            latents = self._denoise(index, seed, conditioning)
            check_latents(latents)
        self.check_stop()
        self.emit(PhaseStarted(Phase.DECODING, index))
        with self.clock.time("decode"):
            pixels, degradations = decode_pixels(
                self.model, latents, check_stop=self.check_stop, may_tile=self.may_tile
            )
        # Each is told once, however many pictures it is about.
        self._degradations += [new for new in degradations if new not in self._degradations]
        self.emit(ImageDecoded(index))
        self.check_stop()
        self.emit(PhaseStarted(Phase.ENCODING_IMAGE, index))
        with self.clock.time("encode_image"):
            shared, full = self._texts(seed)
            data = encode_image(pixels, self.work.output, shared_text=shared, full_text=full)
        height, width = pixels.shape[:2]
        self.emit(ImageEncoded(index, seed, width, height, self.work.output.format, data))

    def _denoise(self, index: int, seed: int, conditioning: Conditioning) -> torch.Tensor:
        work, model = self.work, self.model
        generator = seeded_generator(seed)
        scheduler = build_scheduler(
            work.scheduler, model.plan.scheduler_config, steps=work.steps
        )
        noise = initial_noise(
            channels=model.plan_config("unet")["in_channels"],
            height=work.height,
            width=work.width,
            scale=model.pixels_per_latent,
            generator=generator,
        )

        def on_step(state: StepState) -> None:
            self.emit(StepFinished(index, state.step, state.steps))
            preview = self._preview(index, state, scheduler)
            if preview is not None:
                self.emit(preview)

        return denoise(
            model.networks["unet"],
            scheduler,
            noise.to(model.device),
            conditioning,
            Guidance(work.guidance_scale, work.guidance_rescale),
            steps=work.steps,
            numerics=model.unet_numerics,
            step_options=step_options(scheduler, work.scheduler, generator),
            on_step=on_step,
            check_stop=self.check_stop,
            make_room=model.make_room,
        )

    def _preview(self, index: int, state: StepState, scheduler: Any) -> Preview | None:
        settings = self.work.preview
        if settings.every_steps <= 0 or state.step % settings.every_steps:
            return None
        if self.model.preview_matrix is None:
            self.model.preview_matrix = fit_preview_matrix(self.model)
        return draw_preview(
            estimate_clean(state, scheduler),
            self.model.preview_matrix,
            image_index=index,
            step=state.step,
            width=self.work.width,
            height=self.work.height,
            max_edge=settings.max_edge,
        )

    def _texts(self, seed: int) -> tuple[str, str]:
        if not self.work.output.embed_parameters:
            return "", ""
        full = full_text(
            self.work,
            seed,
            unet_data_type=data_type_of(self.model.unet_numerics.data_type),
            vae_data_type=data_type_of(self.model.vae_numerics.data_type),
        )
        return shared_text(self.work, seed), full
