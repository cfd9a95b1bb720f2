"""A refiner at work: the last steps of pictures that another model began."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from domains.inference.backends.clock import Clock
from domains.inference.backends.decoding import check_latents, finite, non_finite
from domains.inference.backends.denoise import Conditioning, StepState, denoise
from domains.inference.backends.latents import Noise
from domains.inference.backends.loops import Loop, PictureLoops
from domains.inference.backends.parts import Parts
from domains.inference.backends.refiner_part import RefinerPart
from domains.inference.backends.schedulers import step_options
from domains.inference.backends.seamless import seamless_convolutions
from domains.inference.backends.second_try import with_room
from domains.inference.backends.sources import Sources
from domains.inference.backends.speed import settle_denoiser
from domains.inference.backends.start import Start
from domains.inference.backends.telling import StepTelling
from domains.inference.backends.widening import can_widen, degradation, in_float32
from domains.inference.types import GenerationSettings, PrecisionMode, RefinerMode, resolved
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted, TextEncoded
from domains.values import Degradation, DegradationKind, ModelPart

_GAVE_WAY = (
    "The model made room for its refiner once it had begun every picture: the device has no "
    "room for both."
)


@dataclass(frozen=True)
class Begun:
    """A picture whose denoising is not over yet, or just is.

    `latents` are float32 `[1, channels, height, width]` on the device; `noise` is the picture's
    own, whose next numbers are used; `loops` are those that it goes through.
    """

    index: int
    latents: torch.Tensor
    noise: Noise
    loops: PictureLoops


@dataclass
class Refining:
    """The refiner's part of resolved `settings`, those of the last pass.

    `parts` are what the request works with, `sources` what it starts from. `telling` hears of
    its steps, counted over both models. `note` takes what was done otherwise than usual. `late`
    says whether steps are queued as late as can be.
    """

    part: RefinerPart
    parts: Parts
    settings: GenerationSettings
    sources: Sources
    context: JobContext
    clock: Clock
    telling: StepTelling
    note: Callable[[Iterable[Degradation]], None]
    late: Callable[[], bool]
    _conditioning: Conditioning | None = field(default=None, init=False)

    @property
    def waits(self) -> bool:
        """Whether the model before it has to give way first."""
        return self.part.model is None

    def prepare(self) -> None:
        """Have the model and its texts ready; once more does nothing.

        Raises:
            DomainError: As `RefinerPart.take_over` and `RefinerPart.encode_text`.
            Exception: As torch raises it.
        """
        if self._conditioning is not None:
            return
        if self.waits:
            self.part.take_over()
            self.note([Degradation(DegradationKind.OFFLOADED, _GAVE_WAY, ModelPart.DENOISER)])
        model = self.part.ready
        self.context.emit(PhaseStarted(Phase.ENCODING_TEXT))
        with self.clock.time("encode_text"):
            encode = partial(self.part.encode_text, self.parts.inversions)
            text = with_room(encode, model.make_room)
        self.context.emit(TextEncoded(text.cached))
        self.note(text.degradations)
        if model.precision is PrecisionMode.FASTEST:
            longest = max(self.settings.size) // self.part.base.pixels_per_latent
            with self.clock.time("load"):
                settle_denoiser(
                    model,
                    text.conditioning,
                    longest=longest,
                    check_stop=self.context.check_stop,
                )
        self._conditioning = text.conditioning

    def refine(self, begun: Begun) -> Begun:
        """Do the last steps of a picture, or draw it again from where the strength says.

        Raises:
            FailedPrecondition: NON_FINITE_OUTPUT.
            DomainError: What the context's `check_stop` raises.
            Exception: As torch raises it.
        """
        model = self.part.ready
        self.context.check_stop()
        self.context.emit(PhaseStarted(Phase.REFINING, begun.index))
        unet, edges = model.networks["unet"], self.parts.vae.edges
        with self.clock.time("refine"), seamless_convolutions([unet], edges):
            return replace(begun, latents=self._finite(begun))

    def _finite(self, begun: Begun) -> torch.Tensor:
        """The latents that it comes to, once more in float32 if a lower type overflowed.

        A pause keeps nothing of the second time: what goes on after it overflows as before.
        """
        model, states = self.part.ready, begun.noise.states()
        kept = partial(begun.loops.next, generator=begun.noise.generator, device=model.device)
        latents = self._denoised(begun, kept)
        if finite(latents):
            return latents
        if not can_widen(model):
            raise non_finite()
        begun.loops.forget_last()
        begun.noise.go_back(states)
        self.note([degradation(model, "Refined")])
        with in_float32(model) as roomy:
            if not roomy:
                raise non_finite()
            latents = self._denoised(begun, lambda _: None)
        check_latents(latents)
        return latents

    def _denoised(self, begun: Begun, loop: Callable[[Any], Loop | None]) -> torch.Tensor:
        """The latents that it comes to in what it computes in now; `loop` gives that of its
        scheduler."""
        model, refiner = self.part.ready, resolved(self.settings.refiner)
        scheduler, start = self._start(begun)
        self.telling.begin()
        return denoise(
            model.unet_call(),
            scheduler,
            start,
            resolved(self._conditioning).to(model.unet_numerics.data_type),
            resolved(refiner.guidance),
            device=model.device,
            numerics=model.unet_numerics,
            step_options=step_options(
                scheduler, self.settings.scheduler, begun.noise.generator
            ),
            on_step=partial(self._on_step, begun.index, scheduler),
            check_stop=self.context.check_stop,
            make_room=model.make_room,
            loop=loop(scheduler),
            late=self.late,
        )

    def _start(self, begun: Begun) -> tuple[Any, Start]:
        schedule = self.part.schedule()
        refiner = resolved(self.settings.refiner)
        if refiner.mode is RefinerMode.HANDOVER:
            masking = self.sources.masking_of_handover(begun.latents, begun.noise)
            start = Start(begun.latents, schedule.first, schedule.steps, masking)
            return schedule.scheduler, replace(start, before=self.part.division.own_steps)
        steps = resolved(refiner.steps)
        start = self.sources.start_of_refiner(
            schedule.scheduler,
            begun.latents,
            begun.noise,
            steps=steps,
            skipped=steps - schedule.steps,
        )
        return schedule.scheduler, start

    def _on_step(self, index: int, scheduler: Any, state: StepState) -> None:
        done = self.part.division.own_steps
        over_all = replace(state, step=done + state.step, steps=done + state.steps)
        self.telling.tell(index, self.settings, over_all, scheduler)
