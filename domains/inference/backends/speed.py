"""Which numbers networks compute in when speed comes first: measured, not guessed.

Bfloat16 is several times faster than float32 on one processor and slower on the next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from domains.device.backends import faults
from domains.inference.backends.denoise import Conditioning, predict
from domains.inference.backends.device import (
    Numerics,
    release_memory,
    traits_of,
)
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.precision import apply
from domains.inference.backends.step_graphs import Recorder, recorder_for
from domains.inference.backends.trial_time import shortest_seconds
from domains.inference.backends.vae import decode


def settle_numerics(
    model: LoadedModel,
    conditioning: Conditioning,
    *,
    width: int,
    height: int,
    check_stop: Callable[[], None],
) -> None:
    """Measure UNet and VAE on their device and keep each in its fastest numbers.

    Where compiled code may run, they take those that it is made for, and nothing is measured.
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
    traits, vae_config = traits_of(model.device), model.plan_config("vae")
    if model.code is not None and traits.compiled is not None:
        check_stop()
        _settle_for_code(model, *traits.compiled)
        return
    longest = max(width, height) // model.pixels_per_latent
    latents = _latents(model, longest)

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
    settle_denoiser(model, conditioning, longest=longest, check_stop=check_stop)
    if "vae" not in model.networks:  # another model's, whose numbers are its own
        model.measured = True
        return
    model.networks["vae"], model.vae_numerics = fastest(
        model.networks["vae"],
        vae_candidates,
        run_vae,
        device=model.device,
        check_stop=check_stop,
    )
    model.measured = True


def _settle_for_code(model: LoadedModel, unet: Numerics, vae: Numerics) -> None:
    """Bring a model into what its compiled code computes in."""
    model.unet_numerics = unet
    apply(model.networks["unet"], unet)
    if "vae" in model.networks:
        model.vae_numerics = vae
        apply(model.networks["vae"], vae)
    model.unet_measured = model.measured = True


def settle_denoiser(
    model: LoadedModel,
    conditioning: Conditioning,
    *,
    longest: int,
    check_stop: Callable[[], None],
) -> None:
    """Measure the UNet alone, as `settle_numerics` does, unless that was done.

    Args:
        model: Its UNet and numerics are replaced.
        conditioning: Any, of the batch size to be used.
        longest: Latents along the longer edge of the picture.
        check_stop: Called before each trial; may raise to stop, with nothing replaced.
    """
    if model.unet_measured:
        return
    recorder = recorder_for(model.device)
    # Recorded calls know tensors on their device alone.
    place = None if recorder is None else model.device
    latents, timestep = _latents(model, longest), torch.tensor(500, device=place)
    batch = torch.cat([latents] * len(conditioning.hidden_states))

    def run(unet: nn.Module, numerics: Numerics) -> object:
        return predict(unet, batch, timestep, conditioning.to(numerics.data_type), numerics)

    model.networks["unet"], model.unet_numerics = fastest(
        model.networks["unet"],
        traits_of(model.device).candidates,
        run,
        device=model.device,
        check_stop=check_stop,
        recorder=recorder,
    )
    model.unet_measured = True


def _latents(model: LoadedModel, longest: int) -> torch.Tensor:
    """Of the square that is tried; most UNets halve latents two or three times."""
    edge = max(8, min(traits_of(model.device).trial_edge, longest) // 8 * 8)
    channels = model.plan_config("unet")["in_channels"]
    return torch.randn(1, channels, edge, edge).to(model.device)


def fastest(
    network: nn.Module,
    candidates: Sequence[Numerics],
    run: Callable[[nn.Module, Numerics], object],
    *,
    device: torch.device,
    check_stop: Callable[[], None],
    recorder: Recorder | None = None,
) -> tuple[nn.Module, Numerics]:
    """Run `network` in each of `candidates` and keep the fastest.

    Args:
        network: Left as it is; copies are tried.
        candidates: At least one.
        run: Runs a network once; it must wait for nothing.
        device: Where the network is.
        check_stop: Called before each trial; may raise to stop.
        recorder: Of the device, where the network's calls will be replayed: replays are
            compared then, as layouts that are faster by launches may be slower by kernels.

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
            seconds = shortest_seconds(partial(run, trial, numerics), device, recorder)
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
        if recorder is not None:
            recorder.let_go()
        if shortage is not None:
            release_memory(device)
    if best is None:
        assert shortage is not None, "there is at least one candidate"
        raise shortage
    return best[1], best[2]
