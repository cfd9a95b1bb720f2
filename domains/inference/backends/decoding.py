"""From the latents of a picture to pixels that are worth keeping."""

from __future__ import annotations

from collections.abc import Callable

import torch

from domains.device.backends import faults
from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.images import Pixels, to_pixels
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.second_try import with_room
from domains.inference.backends.tiled_decode import needs_tiles
from domains.inference.backends.vae import decode, decode_in_tiles
from domains.inference.types import Toggle
from domains.values import Degradation, DegradationKind, ModelPart


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
    model: LoadedModel,
    latents: torch.Tensor,
    *,
    check_stop: Callable[[], None],
    may_tile: bool,
    tiling: Toggle = Toggle.SERVER,
) -> tuple[Pixels, list[Degradation]]:
    """Decode the latents of one picture, once more in float32 if a lower type overflowed.

    In tiles where the request or the model's profile says so, and where memory does not
    suffice otherwise and `may_tile` allows it; never where the request forbids it.

    Args:
        model: After an overflow its VAE stays in float32.
        latents: Finite float32 `[1, channels, height, width]`.
        check_stop: Called before each tile; may raise to stop.
        may_tile: Whether a picture may come out otherwise than decoded whole.
        tiling: What the request says of tiles.

    Returns:
        uint8 `[height, width, 3]`, and what had to be done otherwise than planned.

    Raises:
        FailedPrecondition: NON_FINITE_OUTPUT when float32 overflows too.
    """
    decoding = _Decoding(model, latents, check_stop, may_tile, tiling)
    image = decoding.run()
    before = str(model.vae_numerics.data_type).removeprefix("torch.")
    if not _finite(image) and model.widen_vae():
        decoding.degradations.append(
            Degradation(
                DegradationKind.DATA_TYPE,
                f"Decoding overflowed in {before}; float32 was used.",
                ModelPart.VAE,
            )
        )
        image = decoding.run()
    if not _finite(image):
        raise FailedPrecondition(
            "The model's VAE produced pixels that are not finite; use another model.",
            reason=Reason.NON_FINITE_OUTPUT,
            metadata={"stage": "decoding"},
        )
    return to_pixels(image), decoding.degradations


class _Decoding:
    """One picture's way through the VAE; once in tiles, it stays so."""

    def __init__(
        self,
        model: LoadedModel,
        latents: torch.Tensor,
        check_stop: Callable[[], None],
        may_tile: bool,
        tiling: Toggle,
    ) -> None:
        self._model = model
        self._latents = latents
        self._check_stop = check_stop
        self._tiled = False
        large = needs_tiles(latents) and tiling is not Toggle.OFF
        self._may_tile = may_tile and large
        self.degradations: list[Degradation] = []
        if large and tiling is Toggle.ON:
            self._tile("Decoded in tiles, as the request asks.")
        elif large and model.vae_tiling:
            self._tile("Decoded in tiles, as the device's profile says.")

    def run(self) -> torch.Tensor:
        """Decode in the element type and layout that the VAE has at the moment."""
        try:
            return with_room(self._decode, self._model.make_room)
        except Exception as error:
            if self._tiled or not self._may_tile or not faults.is_shortage(error):
                raise
            faults.drop_frames(error)
        self._tile("Memory did not suffice to decode the picture whole; tiles were used.")
        self._model.make_room()
        return self._decode()

    def _decode(self) -> torch.Tensor:
        model = self._model
        vae, config = model.networks["vae"], model.plan_config("vae")
        if self._tiled:
            return decode_in_tiles(
                vae, self._latents, config, model.vae_numerics, check_stop=self._check_stop
            )
        return decode(vae, self._latents, config, model.vae_numerics)

    def _tile(self, why: str) -> None:
        self._tiled = True
        self.degradations.append(Degradation(DegradationKind.VAE_TILED, why))


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
