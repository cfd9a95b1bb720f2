"""Networks without weights, run once without numbers: do they take what they will be given?

What a configuration breaks, it breaks here, before any weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from domains.inference.backends import one_run
from domains.model.backends.bounds import Config
from domains.model.backends.component_config import invalid
from domains.model.backends.library_errors import blamed_on

_META = torch.device("meta")


def try_networks(networks: Mapping[str, nn.Module], configs: Mapping[str, Any]) -> None:
    """Run UNet and VAE once at the smallest size that a request may ask for.

    Args:
        networks: On the meta device, by folder. What borrows its VAE has none.
        configs: Their checked configurations, by folder, and that of a VAE that requests lend.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID of the network that fails, or whose output
            is of another shape than the next one takes.
    """
    unet, vae = configs["unet"], configs.get("vae")
    edge = one_run.PIXELS // 8 if vae is None else one_run.latent_shape(vae)[1]
    channels = unet["in_channels"] if vae is None else vae["latent_channels"]
    with torch.no_grad(), _META:
        with blamed_on("unet", "config.json"):
            # A mask and a picture come beside the latents, where it takes them.
            noise = one_run.run_unet(networks["unet"], unet, (unet["in_channels"], edge, edge))
        _check_shape("unet", noise, (one_run.BATCH, channels, edge, edge))
    if vae is not None and "vae" in networks:
        _try_vae(networks["vae"], vae)


def try_network(name: str, network: nn.Module, config: Config) -> None:
    """Run a network once; a text encoder takes what its configuration says.

    Args:
        name: What it is called in a folder.
        network: On the meta device.
        config: Its checked configuration.

    Raises:
        FailedPrecondition: MODEL_CONFIG_INVALID, where it fails or gives what is not wanted.
    """
    if name == "vae":
        _try_vae(network, config)
    run = one_run.LONE.get(name)
    if run is not None:
        with torch.no_grad(), _META, blamed_on(name, "config.json"):
            run(network)


def _try_vae(vae: nn.Module, config: Config) -> None:
    latents = one_run.latent_shape(config)
    with torch.no_grad(), _META:
        with blamed_on("vae", "config.json"):
            image = one_run.decode_once(vae, config)
        _check_shape("vae", image, (1, 3, one_run.PIXELS, one_run.PIXELS))
        with blamed_on("vae", "config.json"):
            encoded = one_run.encode_once(vae, image)
        _check_shape("vae", encoded, (1, *latents))


def _check_shape(component: str, output: torch.Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(output.shape) != wanted:
        raise invalid(f"{component}/config.json", "gives an output of another shape")
