"""From the latents of a picture to pixels that are worth keeping."""

from __future__ import annotations

import torch

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.decode import decode
from domains.inference.backends.device import Numerics
from domains.inference.backends.images import Pixels, to_pixels
from domains.inference.backends.loaded import LoadedModel
from domains.inference.backends.precision import apply
from domains.session.types import Degradation, DegradationKind


def check_latents(latents: torch.Tensor) -> None:
    """Refuse latents that hold a NaN or an infinity.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT.
    """
    if not _finite(latents):
        raise FailedPrecondition(
            "The model produced numbers that are not finite; use exact precision, a lower "
            "guidance or another model.",
            reason=Reason.NON_FINITE_OUTPUT,
            metadata={"stage": "denoising"},
        )


def decode_pixels(
    model: LoadedModel, latents: torch.Tensor
) -> tuple[Pixels, list[Degradation]]:
    """Decode the latents of one picture, once more in float32 if a lower type overflowed.

    Args:
        model: After an overflow its VAE stays in float32.
        latents: Finite float32 `[1, channels, height, width]`.

    Returns:
        uint8 `[height, width, 3]`, and what had to be done otherwise than planned.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT when float32 overflows too.
    """
    degradations: list[Degradation] = []
    config = model.plan_config("vae")
    image = decode(model.networks["vae"], latents, config, model.vae_numerics)
    if not _finite(image) and model.vae_numerics.data_type is not torch.float32:
        before = str(model.vae_numerics.data_type).removeprefix("torch.")
        model.vae_numerics = Numerics(torch.float32)
        apply(model.networks["vae"], model.vae_numerics)
        degradations.append(
            Degradation(
                DegradationKind.VAE_DATA_TYPE,
                f"Decoding overflowed in {before}; float32 was used.",
            )
        )
        image = decode(model.networks["vae"], latents, config, model.vae_numerics)
    if not _finite(image):
        raise FailedPrecondition(
            "The model's VAE produced pixels that are not finite; use another model.",
            reason=Reason.NON_FINITE_OUTPUT,
            metadata={"stage": "decoding"},
        )
    return to_pixels(image), degradations


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
