"""From the pixels of an input picture to what the VAE knows of its latents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.images import Pixels
from domains.inference.backends.seamless import seamless_convolutions
from domains.inference.backends.start import Posterior
from domains.inference.backends.tiled_decode import TILE_LATENTS
from domains.inference.backends.vae import encode, encode_in_tiles
from domains.inference.backends.vae_part import Vae
from domains.inference.backends.vae_run import Tiling, VaeRun
from domains.values import Degradation


def to_levels(pixels: Pixels) -> torch.Tensor:
    """Pixels as levels of light.

    Args:
        pixels: uint8 `[height, width, 3]`.

    Returns:
        float32 `[1, 3, height, width]`, 0 to 1, on the CPU.
    """
    scaled = pixels[None].astype(np.float32) / 255.0
    # The colours stay side by side in memory: it decides how the encoder rounds.
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2))


def to_image(pixels: Pixels) -> torch.Tensor:
    """Pixels as a VAE takes them; the arithmetic is that of diffusers' `VaeImageProcessor`.

    Args:
        pixels: uint8 `[height, width, 3]`.

    Returns:
        float32 `[1, 3, height, width]`, -1 to 1, on the CPU.
    """
    return 2.0 * to_levels(pixels) - 1.0


def encode_picture(
    vae: Vae,
    image: torch.Tensor,
    *,
    check_stop: Callable[[], None],
    tiling: Tiling,
) -> tuple[Posterior, list[Degradation]]:
    """Encode an input picture, by the rules of `decode_pixels` about tiles and overflows.

    Args:
        vae: After an overflow it stays in float32.
        image: float32 `[1, 3, height, width]`, -1 to 1.
        check_stop: Called before each tile; may raise to stop.
        tiling: Whether it may be encoded otherwise than whole.

    Returns:
        What the VAE knows of its latents, and what had to be done otherwise than planned.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT when float32 overflows too.
    """
    network, config, edges = vae.network, vae.config, vae.edges
    image = image.to(vae.device)

    def whole() -> Posterior:
        with seamless_convolutions([network], edges):
            return encode(network, image, vae.numerics)

    run = VaeRun(
        vae,
        "Encoded",
        max(image.shape[-2:]) > TILE_LATENTS * vae.pixels_per_latent,
        tiling,
        whole,
        lambda: encode_in_tiles(
            network, image, config, vae.numerics, check_stop=check_stop, edges=edges
        ),
        _finite,
    )
    posterior = run.run()
    if not _finite(posterior):
        raise FailedPrecondition(
            "The model's VAE made numbers of the picture that are not finite; use another "
            "model.",
            reason=Reason.NON_FINITE_OUTPUT,
            metadata={"stage": "preparing-input"},
        )
    return posterior, run.degradations


def _finite(posterior: Posterior) -> bool:
    return all(bool(torch.isfinite(part).all()) for part in (posterior.mean, posterior.spread))
