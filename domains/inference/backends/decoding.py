"""From the latents of a picture to pixels that are worth keeping."""

from __future__ import annotations

from collections.abc import Callable

import torch

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.images import Pixels, to_pixels
from domains.inference.backends.seamless import seamless_convolutions
from domains.inference.backends.tiled_decode import needs_tiles
from domains.inference.backends.vae import decode, decode_in_tiles
from domains.inference.backends.vae_part import Vae
from domains.inference.backends.vae_run import Tiling, VaeRun
from domains.values import Degradation


def check_latents(latents: torch.Tensor) -> None:
    """Refuse latents that hold a NaN or an infinity.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT.
    """
    if not finite(latents):
        raise non_finite()


def non_finite() -> FailedPrecondition:
    """The error of latents that hold a NaN or an infinity."""
    return FailedPrecondition(
        "The model produced numbers that are not finite, in float32 too where that was "
        "possible; use a lower guidance, other LoRAs or another model.",
        reason=Reason.NON_FINITE_OUTPUT,
        metadata={"stage": "denoising"},
    )


def decode_pixels(
    vae: Vae,
    latents: torch.Tensor,
    *,
    check_stop: Callable[[], None],
    tiling: Tiling,
) -> tuple[Pixels, list[Degradation]]:
    """Decode the latents of one picture, once more in float32 if a lower type overflowed.

    In tiles where the request or the model's profile says so, and where memory does not
    suffice otherwise and `tiling` allows it; never where the request forbids it.

    Args:
        vae: After an overflow it stays in float32.
        latents: Finite float32 `[1, channels, height, width]`.
        check_stop: Called before each tile; may raise to stop.
        tiling: Whether a picture may come out otherwise than decoded whole.

    Returns:
        uint8 `[height, width, 3]`, and what had to be done otherwise than planned.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT when float32 overflows too, or gives one number
            for every pixel, before that is clipped: a VAE that works never does.
    """
    network, config, edges = vae.network, vae.config, vae.edges

    def whole() -> torch.Tensor:
        with seamless_convolutions([network], edges):
            return decode(network, latents, config, vae.numerics)

    run = VaeRun(
        vae,
        "Decoded",
        needs_tiles(latents),
        tiling,
        whole,
        lambda: decode_in_tiles(
            network, latents, config, vae.numerics, check_stop=check_stop, edges=edges
        ),
        _is_picture,
    )
    image = run.run()
    if not _is_picture(image):
        raise FailedPrecondition(
            "The model's VAE produced pixels that are not finite, or all the same; use another"
            " model, or another VAE.",
            reason=Reason.NON_FINITE_OUTPUT,
            metadata={"stage": "decoding"},
        )
    return to_pixels(image), run.degradations


def finite(tensor: torch.Tensor) -> bool:
    """Whether it holds neither a NaN nor an infinity."""
    return bool(torch.isfinite(tensor).all())


def _is_picture(image: torch.Tensor) -> bool:
    # The host waits for its device once.
    return bool(torch.isfinite(image).all() & (image.amin() < image.amax()))
