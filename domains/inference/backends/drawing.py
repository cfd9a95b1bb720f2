"""One generation on a loaded model, from texts to encoded pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from domains.chain.backends.canvas import Canvas
from domains.chain.backends.finishing import Finishing as ChainFinishing
from domains.chain.backends.kept_chain import ChainProgress
from domains.chain.backends.upscaler_shelf import UpscalerShelf
from domains.inference.backends.beside import Lane
from domains.inference.backends.clock import Clock
from domains.inference.backends.control import Control
from domains.inference.backends.decoding import check_latents, finite, non_finite
from domains.inference.backends.denoise import Conditioning, StepState, all_of, denoise
from domains.inference.backends.denoiser_use import DenoiserUse
from domains.inference.backends.families.registry import family_of
from domains.inference.backends.finishing import Finishing
from domains.inference.backends.image_prompts import ReadPrompts
from domains.inference.backends.latents import Noise, noise_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loops import PictureLoops
from domains.inference.backends.lora_layers import on_text_encoders
from domains.inference.backends.parts import Parts
from domains.inference.backends.pausing import PictureKeeper, fingerprint_of
from domains.inference.backends.refining import Begun, Refining
from domains.inference.backends.schedulers import build_scheduler, step_options
from domains.inference.backends.second_try import with_room
from domains.inference.backends.sources import Source, Sources
from domains.inference.backends.speed import settle_numerics
from domains.inference.backends.telling import StepTelling
from domains.inference.backends.through_vae import ThroughVae
from domains.inference.backends.vae_run import Tiling
from domains.inference.backends.ways import Ways
from domains.inference.backends.widening import can_widen, degradation
from domains.inference.jobs import GenerationJob, GenerationReport, PausedGeneration
from domains.inference.types import (
    GenerationSettings,
    PrecisionMode,
    RefinerMode,
    resolved,
)
from domains.session.jobs import JobContext, WorkPaused
from domains.session.types import (
    Phase,
    PhaseStarted,
    TextEncoded,
)
from domains.values import Degradation, DegradationKind, ModelOrigin


@dataclass
class Drawing:
    """Draws every picture of resolved `settings` with `model`, each as if alone.

    `settings` are those of `job` in the precision that `model` has; a job that goes on after a
    pause begins where the one before it stopped. `origin` is where the model was, `use`
    how its denoiser is used. `may_tile` allows a picture to be decoded in tiles where memory is
    short; `lane` is where pictures are decoded beside the steps of the next ones. `upscalers`
    are for the chain that finishes them.
    """

    model: LoadedModel
    parts: Parts
    settings: GenerationSettings
    context: JobContext
    clock: Clock
    origin: ModelOrigin
    job: GenerationJob
    use: DenoiserUse
    may_tile: bool = False
    lane: Lane | None = None
    upscalers: UpscalerShelf | None = None
    _degradations: list[Degradation] = field(default_factory=list)
    _keeper: PictureKeeper | None = None
    _image_prompts: ReadPrompts = field(default_factory=ReadPrompts)

    def __post_init__(self) -> None:
        self._ways = Ways(self.model, self.parts)
        self._telling = StepTelling(
            self.context, self.job.previews, self.parts.vae, self.clock.now
        )
        self._through_vae = ThroughVae(
            self.parts.vae,
            Tiling(self.may_tile, self.settings.vae_tiling),
            self.context.check_stop,
            self._note,
            self.use.do,
        )
        self._sources = Sources(
            self.model, self.settings, self._through_vae, self.parts.upscaler
        )
        self._finishing = Finishing(
            self.job,
            self.settings,
            self.context,
            self.clock,
            self._ways,
            self._through_vae,
            self._note,
            self.lane,
            self._chain(),
            self._chain_progress,
        )

    def _chain(self) -> ChainFinishing | None:
        """What finishes each picture; None for nothing."""
        if not self.job.steps or self.upscalers is None:
            return None
        exact = self.settings.precision is PrecisionMode.EXACT
        return ChainFinishing(
            self.upscalers, self.job.steps, exact, self.context, self.job.previews
        )

    def _chain_progress(self, canvas: Canvas) -> ChainProgress:
        """How far what finishes the picture at work is, which was drawn as `canvas`."""
        return ChainProgress(canvas) if self._keeper is None else self._keeper.finishing(canvas)

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
        if model.code is not None:
            with self.clock.time("load"):
                model.use_code()
        if model.plain_attention is not None:
            self._degradations.append(
                Degradation(
                    DegradationKind.ATTENTION_SLICED,
                    "Attention was computed in slices, as the device's profile says.",
                )
            )
        if self.job.picture is not None or self.parts.image_prompts:
            self._read()
        refining = self._refining()
        with self.use.at_work() as at_work, self._finishing:
            for together in self._portions(refining):
                begun = [self._drawn(index, conditionings) for index in together]
                if refining is not None:
                    if refining.waits:
                        at_work.close()  # nothing may hold on to the UNet that gives way
                    refining.prepare()
                for each in begun:
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
            part,
            self.parts,
            self.settings.passes[-1],
            self._sources,
            self.context,
            self.clock,
            self._telling,
            self._note,
            self._late,
        )

    def _portions(self, refining: Refining | None) -> list[range]:
        """Pictures one by one; all of them begun first where the refiner has to wait until
        nothing more is to be begun. A pause keeps a picture's steps only when they go one by
        one."""
        first, count = self.job.first_image, len(self.settings.seeds)
        if refining is not None and refining.waits:
            return [range(first, count)]
        self._keeper = PictureKeeper(
            self.job, fingerprint_of(self.job, self.model), self.model.device
        )
        return [range(index, index + 1) for index in range(first, count)]

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
        self._note(max(texts, key=lambda text: text.lost_tokens).degradations)
        return [text.conditioning for text in texts]

    def _read(self) -> None:
        """Have the picture to start from encoded, and those that are prompts read."""
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.PREPARING_INPUT))
        with self.clock.time("prepare_input"):
            if self.job.picture is not None:
                self._sources = self._sources.of_picture(self.job.picture, self.job.mask)
            if self.parts.image_prompts:
                self.context.check_stop()
                guided = any(each.guidance.guided for each in self.settings.passes)
                read = partial(ReadPrompts.of, self.parts.image_prompts, guided=guided)
                self._image_prompts = with_room(read, self.model.make_room)

    def _note(self, degradations: Iterable[Degradation]) -> None:
        """Each is reported once, however many pictures it concerns."""
        self._degradations += [new for new in degradations if new not in self._degradations]

    def _drawn(self, index: int, conditionings: Sequence[Conditioning]) -> Begun:
        """A picture denoised as far as the model does."""
        loops = PictureLoops() if self._keeper is None else self._keeper.begin(index)
        noise: Noise

        def draw() -> torch.Tensor:
            nonlocal noise
            latents, noise = self._passes(index, conditionings, loops)
            return latents

        latents = self._finite(draw, loops)
        return Begun(index, latents, noise, loops)

    def _finish(self, begun: Begun) -> None:
        """Have a file made of a picture's finished latents."""
        more = begun.index + 1 < len(self.settings.seeds)
        finished = self._sources.finished
        self._finishing.finish(begun.index, begun.latents, finished, more=more)
        if self._keeper is not None:
            self._keeper.finish()

    def _finite(self, draw: Callable[[], torch.Tensor], loops: PictureLoops) -> torch.Tensor:
        """The latents of a picture, drawn anew in float32 if a lower type overflowed."""
        model = self.model
        if not loops.widened:
            latents = draw()
            if finite(latents):
                return latents
            if not can_widen(model):
                raise non_finite()
            loops.begin_again(widened=True)
        self._note([degradation(model, "Denoised")])
        with self.use.in_float32() as roomy:
            if not roomy:
                raise non_finite()
            latents = draw()
        check_latents(latents)
        return latents

    def _passes(
        self, index: int, conditionings: Sequence[Conditioning], loops: PictureLoops
    ) -> tuple[torch.Tensor, Noise]:
        """The latents that the last pass comes to, or the first that are not finite, and the
        noise of that pass."""
        kept = loops.kept_steps  # told once, with the first pass
        noise = noise_of(self.settings.seeds[index], self.settings.variation)
        first, *others = zip(self.settings.passes, conditionings, strict=True)
        self._begin(Phase.DENOISING, index, kept)
        with self.clock.time("denoise"):
            latents = self._denoise(index, noise, *first, self._sources.first, loops)
        for settings, conditioning in others:
            if finite(latents):
                larger = self._enlarged(index, latents, settings)
                self._begin(Phase.SECOND_PASS, index)
                with self.clock.time("denoise"):
                    noise = noise_of(self.settings.seeds[index], settings.variation)
                    latents = self._denoise(index, noise, settings, conditioning, larger, loops)
        return latents, noise

    def _begin(self, phase: Phase, index: int, kept_steps: int = 0) -> None:
        self.context.check_stop()
        self.context.emit(PhaseStarted(phase, index, kept_steps))

    def _enlarged(
        self, index: int, latents: torch.Tensor, settings: GenerationSettings
    ) -> Source:
        """What the second pass starts from, in the size of its settings."""
        if not resolved(self.settings.second_pass).through_pixels:
            return self._sources.larger(latents, settings, index)
        if self.parts.upscaler is not None:
            with self.clock.time("load"):  # it may have made way meanwhile
                self.parts.upscaler.ready()
        self._begin(Phase.PREPARING_INPUT, index)
        with self.clock.time("prepare_input"):
            return self._sources.larger(latents, settings, index)

    def _late(self) -> bool:
        """Whether steps are queued as late as can be: encoders hold up all Python while they
        are at it."""
        return self.use.alone and not self._finishing.at_work

    def _denoise(
        self,
        index: int,
        noise: Noise,
        settings: GenerationSettings,
        conditioning: Conditioning,
        source: Source | None,
        loops: PictureLoops,
    ) -> torch.Tensor:
        model = self.model
        scheduler = build_scheduler(
            settings.scheduler,
            model.plan.scheduler_config,
            steps=settings.steps,
            skipped=settings.skipped_steps,
        )
        start, refined = self._sources.start(settings, scheduler, noise, source), 0
        if self.parts.refiner is not None and settings.refiner is not None:
            division = self.parts.refiner.division
            start = replace(start, end=division.end, steps=division.own_steps)
            refined = division.refiner_steps
            if settings.refiner.mode is RefinerMode.HANDOVER:
                start = replace(start, after=refined)
        self._telling.begin()

        def on_step(state: StepState) -> None:
            over_all = replace(state, steps=state.steps + refined)
            self._telling.tell(index, settings, over_all, scheduler)

        return denoise(
            self.use.denoiser(self._ways, tuple(start.latents.shape)),
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
            late=self._late,
            addition=all_of(
                Control(
                    [
                        net.drawing(settings.size, self._sources.part_of)
                        for net in self.parts.control_nets
                    ],
                    index,
                    model.unet_numerics.data_type,
                    self.context.check_stop,
                ),
                self._image_prompts.in_pass(
                    settings.size,
                    self._sources.part_of,
                    tuple(start.latents.shape),
                    len(model.plan_config("unet")["block_out_channels"]),
                ),
            ),
        )
