"""Which numbers networks compute in when speed comes first: measured, not guessed.

Bfloat16 is several times faster than float32 on one processor and slower on the next.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from domains.device.backends import faults
from domains.inference.backends.denoise import Conditioning, predict
from domains.inference.backends.device import (
    Numerics,
    release_memory,
    synchronize,
    traits_of,
)
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.precision import apply
from domains.inference.backends.vae import decode

# A trial that takes longer than this once is not repeated.
_LONG_TRIAL_SECONDS = 1.0
_REPEATS = 3


def settle_numerics(
    model: LoadedModel,
    conditioning: Conditioning,
    *,
    width: int,
    height: int,
    check_stop: Callable[[], None],
) -> None:
    """Measure UNet and VAE on their device and keep each in its fastest numbers.

    Done once per loaded model. The picture tried is square, as large as the one asked
    for or as the device's trial size, whichever is smaller.

    Args:
        model: Its networks and numerics are replaced.
        conditioning: Any, of the batch size to be used.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        check_stop: Called before each trial; may raise to stop, with nothing replaced
            or the UNet alone.
    """
    traits = traits_of(model.device)
    scale = model.pixels_per_latent
    # Most UNets halve the latents two or three times.
    edge = max(8, min(traits.trial_edge, max(width, height) // scale) // 8 * 8)
    unet_config, vae_config = model.plan_config("unet"), model.plan_config("vae")
    latents = torch.randn(1, unet_config["in_channels"], edge, edge).to(model.device)
    batch = torch.cat([latents] * len(conditioning.hidden_states))
    timestep = torch.tensor(500)

    def run_unet(unet: nn.Module, numerics: Numerics) -> object:
        return predict(unet, batch, timestep, conditioning.to(numerics.data_type), numerics)

    def run_vae(vae: nn.Module, numerics: Numerics) -> object:
        return decode(vae, latents, vae_config, numerics)

    # The VAE may not be able to decode in the half type it was kept out of at load.
    vae_candidates = [model.vae_numerics] + [
        numerics
        for numerics in traits.candidates
        if numerics != model.vae_numerics
        and not (
            numerics.data_type is torch.float16
            and model.vae_numerics.data_type is torch.float32
        )
        and not traits.vae_always_float32
    ]
    if not model.unet_measured:
        model.networks["unet"], model.unet_numerics = fastest(
            model.networks["unet"],
            traits.candidates,
            run_unet,
            device=model.device,
            check_stop=check_stop,
        )
        model.unet_measured = True
    model.networks["vae"], model.vae_numerics = fastest(
        model.networks["vae"],
        vae_candidates,
        run_vae,
        device=model.device,
        check_stop=check_stop,
    )
    model.measured = True


def fastest(
    network: nn.Module,
    candidates: Sequence[Numerics],
    run: Callable[[nn.Module, Numerics], object],
    *,
    device: torch.device,
    check_stop: Callable[[], None],
) -> tuple[nn.Module, Numerics]:
    """Run `network` in each of `candidates` and keep the fastest.

    Args:
        network: Left as it is; copies are tried.
        candidates: At least one.
        run: Runs a network once; it must wait for nothing.
        device: Where the network is.
        check_stop: Called before each trial; may raise to stop.

    Returns:
        The fastest copy and its numerics, of those that there is room for.

    Raises:
        Exception: As torch raises it, when there is room for none.
    """
    best: tuple[float, nn.Module, Numerics] | None = None
    shortage: Exception | None = None
    for numerics in candidates:
        check_stop()
        try:
            trial = apply(copy.deepcopy(network), numerics)
            seconds = _seconds(partial(run, trial, numerics), device)
        except Exception as error:
            if not faults.is_shortage(error):
                raise
            # There is no room for this one beside the network and the best so far.
            faults.drop_frames(error)
            shortage = error
        else:
            if best is None or seconds < best[0]:
                best = (seconds, trial, numerics)
        trial = network
        if shortage is not None:
            release_memory(device)
    if best is None:
        assert shortage is not None, "there is at least one candidate"
        raise shortage
    return best[1], best[2]


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few runs, after one that fills caches and picks kernels."""
    shortest = float("inf")
    for attempt in range(1 + _REPEATS):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        elapsed = time.perf_counter() - start
        if attempt > 0 or elapsed > _LONG_TRIAL_SECONDS:
            shortest = min(shortest, elapsed)
        if elapsed > _LONG_TRIAL_SECONDS:
            break
    return shortest
