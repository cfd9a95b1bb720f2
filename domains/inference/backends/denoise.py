"""The denoising loop: from noisy to finished latents of a picture, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from domains.inference.backends.device import Numerics
from domains.inference.backends.loops import Loop
from domains.inference.backends.second_try import with_room
from domains.inference.backends.start import Start
from domains.inference.backends.step_fence import StepFence
from domains.inference.types import GuidanceSettings

Unet = Callable[..., Any]
"""A network, or what calls it."""


@dataclass(frozen=True)
class Conditioning:
    """What steers the UNet, on its device.

    With guidance the batch is 2, the negative prompt first; without, it is 1.
    `hidden_states` is `[batch, tokens, width]` in the UNet's type; `added` holds the
    family's extra inputs in float32: bfloat16 cannot hold a size in pixels.
    """

    hidden_states: torch.Tensor
    added: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def guided(self) -> bool:
        """Whether there is a negative half."""
        return self.hidden_states.shape[0] == 2

    def prompt_alone(self) -> Conditioning:
        """The same without its negative half, for steps outside the guidance's interval."""
        added = {name: value[-1:] for name, value in self.added.items()}
        return Conditioning(self.hidden_states[-1:], added)

    def to(self, data_type: torch.dtype) -> Conditioning:
        """The same with hidden states in another type."""
        return Conditioning(self.hidden_states.to(data_type), self.added)


Addition = Callable[[int, int, torch.Tensor, torch.Tensor, Conditioning], dict[str, Any]]
"""Further arguments for the UNet, by number and count of its calls, scaled sample, timestep and
conditioning."""


def add_nothing(*_: object) -> dict[str, Any]:
    """An `Addition` of a UNet that works by itself."""
    return {}


def all_of(*additions: Addition) -> Addition:
    """What all of them give, each of which gives arguments of its own."""

    def each(*call: Any) -> dict[str, Any]:
        return {name: one for add in additions for name, one in add(*call).items()}

    return each


@dataclass(frozen=True)
class StepState:
    """One finished step: `sample` went into the UNet at `timestep`, `prediction` came out.

    Both tensors are float32 `[1, channels, height, width]`.
    """

    step: int
    steps: int
    timestep: torch.Tensor
    sample: torch.Tensor
    prediction: torch.Tensor


def denoise(
    unet: Unet,
    scheduler: Any,
    start: Start,
    conditioning: Conditioning,
    guidance: GuidanceSettings,
    *,
    device: torch.device,
    numerics: Numerics,
    step_options: dict[str, Any],
    on_step: Callable[[StepState], None],
    check_stop: Callable[[], None],
    make_room: Callable[[], None],
    loop: Loop | None = None,
    addition: Addition = add_nothing,
    late: Callable[[], bool] = lambda: True,
) -> torch.Tensor:
    """Denoise one picture; the same operations in the same order as diffusers' pipelines.

    Args:
        unet: Predicts noise, velocity or sample, as `scheduler` expects.
        scheduler: Fresh, its timesteps set and to begin at the start's, its numbers on the CPU.
        start: From which latents and timestep on; it counts the steps.
        conditioning: From the model's family.
        guidance: Used when `conditioning` is guided, in the steps that it covers; in the others
            the prompt's half alone is computed.
        device: Where `unet` and `conditioning` are.
        numerics: What `unet` computes in. Everything between its calls is float32.
        step_options: Extra arguments of the scheduler's `step`.
        on_step: Called once per step as the user counts them.
        check_stop: Called before every UNet call; may raise to stop, WorkPaused only to an
            effect between steps.
        make_room: Called when memory ran out, before the one UNet call is made again.
        loop: Where it begins, and what it keeps when it stops; None: nothing is kept.
        addition: What a call of the UNet gets beside what is here.
        late: Whether steps are queued as late as can be, see `StepFence`.

    Returns:
        float32 latents `[1, channels, height, width]` on the device, which is done with them.
    """
    loop = Loop(scheduler, torch.Generator()) if loop is None else loop
    latents = start.latents.to(device) if loop.latents is None else loop.latents
    if loop.finished:
        return latents
    # Shares of the schedule are of the whole, also where another model finishes it.
    planned = len(scheduler.timesteps) - start.first
    timesteps, steps = scheduler.timesteps[start.first : start.end], start.steps
    whole_steps = start.before + steps + start.after
    # Networks read them there. One copy for all: for one in each step the host would wait until
    # the device has nothing more to do.
    there = timesteps.to(device)
    order, masking = scheduler.order, start.masking
    # Second-order schedulers call the UNet twice per step, except in one of them.
    warm_up = max(len(timesteps) - steps * order, 0)
    fence = StepFence(latents.device, late=late)
    prompt_alone = conditioning.prompt_alone()
    for index, timestep in enumerate(timesteps):
        if index < loop.calls:
            continue
        fence.await_turn(partial(loop.check, check_stop))
        guides = guidance.covers(start.before + loop.steps, whole_steps)
        steering = conditioning if guides else prompt_alone
        sample = torch.cat([latents] * 2) if steering.guided else latents
        sample = scheduler.scale_model_input(sample, timestep)
        shown = sample if masking is None else masking.shown(sample)
        added = partial(addition, index, planned, sample, there[index], steering)
        call = partial(predict, unet, shown, there[index], steering, numerics, added)
        prediction = with_room(call, make_room)
        if steering.guided:
            prediction = _guide(prediction, guidance)
        latents = scheduler.step(
            prediction, timestep, latents, **step_options, return_dict=False
        )[0].to(torch.float32)
        fence.step_queued()
        last = index == len(timesteps) - 1
        if masking is not None:
            following = None if last else timesteps[index + 1]
            latents = masking.kept(scheduler, latents, following)
        whole = last or (index + 1 > warm_up and (index + 1) % order == 0)
        loop.note(latents, whole=whole)
        if whole:
            on_step(StepState(loop.steps, steps, timestep, sample[:1], prediction))
    fence.wait()
    loop.finish(latents)
    return latents


def rescale_guidance(
    guided: torch.Tensor, conditional: torch.Tensor, rescale: float
) -> torch.Tensor:
    """Bring the spread of a guided prediction back towards the conditional one's.

    Section 3.4 of "Common Diffusion Noise Schedules and Sample Steps are Flawed"
    (arXiv:2305.08891).

    Args:
        guided: float32 `[1, channels, height, width]`.
        conditional: The prediction for the prompt alone, of the same shape.
        rescale: 0 (leave it) to 1 (fully).
    """
    dimensions = list(range(1, conditional.ndim))
    spread = conditional.std(dim=dimensions, keepdim=True)
    rescaled = guided * (spread / guided.std(dim=dimensions, keepdim=True))
    return rescale * rescaled + (1 - rescale) * guided


def predict(
    unet: Unet,
    sample: torch.Tensor,
    timestep: torch.Tensor,
    conditioning: Conditioning,
    numerics: Numerics,
    addition: Callable[[], dict[str, Any]] = add_nothing,
) -> torch.Tensor:
    """Call the UNet once.

    Args:
        unet: In `numerics`.
        sample: float32 `[batch, channels, height, width]`, scaled for the timestep.
        timestep: One number.
        conditioning: Of the same batch and in the UNet's type.
        numerics: What `unet` computes in.
        addition: Gives further arguments, or others in the place of the conditioning's; called
            first.

    Returns:
        float32, shaped like `sample`.
    """
    further = addition()
    sample = sample.to(numerics.data_type)
    if numerics.channels_last:
        sample = sample.contiguous(memory_format=torch.channels_last)
    named = {
        "encoder_hidden_states": conditioning.hidden_states,
        "added_cond_kwargs": conditioning.added or None,
        **further,
    }
    prediction: torch.Tensor = unet(sample, timestep, **named, return_dict=False)[0]
    prediction = prediction.to(torch.float32)
    # The rest of the step runs in one layout, so its results do not depend on this one.
    return prediction.contiguous() if numerics.channels_last else prediction


def _guide(prediction: torch.Tensor, guidance: GuidanceSettings) -> torch.Tensor:
    """Classifier-free guidance (arXiv:2207.12598): away from the negative prediction."""
    negative, conditional = prediction.chunk(2)
    guided = negative + guidance.scale * (conditional - negative)
    if guidance.rescale > 0.0:
        guided = rescale_guidance(guided, conditional, guidance.rescale)
    return guided
