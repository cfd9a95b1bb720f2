"""One real denoising step and one decoding, measured on a loaded model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from domains.device.backends.torch_gauge import stretch_on
from domains.inference.backends.decoding import decode_pixels
from domains.inference.backends.denoise import (
    Conditioning,
    StepState,
    denoise,
    predict,
)
from domains.inference.backends.device import synchronize
from domains.inference.backends.families.registry import family_of
from domains.inference.backends.images import Pixels
from domains.inference.backends.latents import initial_noise, noise_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.schedulers import build_scheduler
from domains.inference.backends.speed import settle_numerics
from domains.inference.backends.start import from_noise
from domains.inference.backends.vae_part import own_vae
from domains.inference.backends.vae_run import Tiling
from domains.inference.types import (
    GenerationSettings,
    GuidanceSettings,
    PrecisionMode,
    Scheduler,
    SchedulerSettings,
)
from domains.model.backends.sizes import latent_size
from domains.session.jobs import JobContext
from domains.session.types import Phase, PhaseStarted, StepFinished
from domains.values import ByteFigure

# The first step fills caches and picks kernels, so its time does not count.
_STEPS = 4
_GUIDANCE = 6.0


@dataclass(frozen=True)
class StepCost:
    """Seconds of one step, and the most memory of steps and decoding together.

    `steps` are all that counted, `decode` is the seconds of the decoding; `picture` is
    `uint8 [height, width, 3]`.
    """

    seconds: float
    peak: ByteFigure
    steps: tuple[float, ...]
    decode: float
    picture: Pixels


class StepTrial:
    """A picture drawn for its cost alone; a square of the model's native size by default.

    Args:
        model: Loaded; its settings may change from one measurement to the next.
        width: In pixels.
        height: In pixels.
    """

    def __init__(
        self, model: LoadedModel, width: int | None = None, height: int | None = None
    ) -> None:
        self._model = model
        edge = int(max(latent_size(model.plan_config("unet")))) * model.pixels_per_latent
        self.width = width or edge
        """In pixels."""
        self.height = height or edge
        """In pixels."""
        self._conditioning: Conditioning | None = None

    def conditioning(self) -> Conditioning:
        """Texts for it, in the type that the UNet has now."""
        model = self._model
        if self._conditioning is None:
            encoded = family_of(model.plan.architecture).encode_text(model, self._drawn())
            self._conditioning = encoded.conditioning
        return self._conditioning.to(model.unet_numerics.data_type)

    def settle_numerics(self, context: JobContext) -> None:
        """Measure numbers as the first request with the model's precision would."""
        model = self._model
        if model.precision is PrecisionMode.FASTEST and not model.measured:
            settle_numerics(
                model,
                self.conditioning(),
                width=self.width,
                height=self.height,
                check_stop=context.check_stop,
            )

    def measure(self, context: JobContext, steps: int = _STEPS) -> StepCost:
        """Draw it once.

        Args:
            context: Hears of each step and stops it.
            steps: At least one; the first one's time counts where there is no other.

        Raises:
            Exception: As torch raises it; DomainError as `decode_pixels`.
        """
        model = self._model
        conditioning = self.conditioning()
        context.emit(PhaseStarted(Phase.MEASURING))
        synchronize(model.device)
        stretch = stretch_on(model.device)
        moments = [time.perf_counter()]

        def on_step(state: StepState) -> None:
            synchronize(model.device)
            moments.append(time.perf_counter())
            took = moments[-1] - moments[-2]
            context.emit(StepFinished(0, state.step, state.steps, took))

        scheduler = build_scheduler(
            self._drawn().scheduler, model.plan.scheduler_config, steps=steps
        )
        latents = denoise(
            model.networks["unet"],
            scheduler,
            from_noise(scheduler, self._noise(), steps=steps),
            conditioning,
            GuidanceSettings(_GUIDANCE),
            device=model.device,
            numerics=model.unet_numerics,
            step_options={},
            on_step=on_step,
            check_stop=context.check_stop,
            make_room=model.make_room,
        )
        picture, _ = decode_pixels(
            own_vae(model), latents, check_stop=context.check_stop, tiling=Tiling()
        )
        synchronize(model.device)
        decode = time.perf_counter() - moments[-1]
        seconds = [later - sooner for sooner, later in pairwise(moments)]
        counted = tuple(seconds[1:] or seconds)
        return StepCost(statistics.median(counted), stretch.peak(), counted, decode, picture)

    def encode(self) -> float:
        """Encode its texts anew; the seconds that this took."""
        model = self._model
        model.embeddings.clear()
        self._conditioning = None
        synchronize(model.device)
        began = time.perf_counter()
        self.conditioning()
        synchronize(model.device)
        return time.perf_counter() - began

    def predictor(self) -> Callable[[], torch.Tensor]:
        """One call of the UNet on fixed input, as it computes when called.

        Returns:
            What gives float32 `[2, channels, height, width]`.
        """
        model = self._model
        batch = torch.cat([self._noise()] * 2)
        return partial(
            predict,
            model.networks["unet"],
            batch,
            torch.tensor(500),
            self.conditioning(),
            model.unet_numerics,
        )

    def _noise(self) -> torch.Tensor:
        model = self._model
        noise = initial_noise(
            channels=model.plan_config("unet")["in_channels"],
            height=self.height,
            width=self.width,
            scale=model.pixels_per_latent,
            noise=noise_of(0, None),
        )
        return noise.to(model.device)

    def _drawn(self) -> GenerationSettings:
        return GenerationSettings(
            model_id=self._model.model_id,
            prompt="a red apple",
            width=self.width,
            height=self.height,
            steps=_STEPS,
            guidance=GuidanceSettings(_GUIDANCE),
            scheduler=SchedulerSettings(Scheduler.EULER_DISCRETE),
            seeds=(0,),
        )
