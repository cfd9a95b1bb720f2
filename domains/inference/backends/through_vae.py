"""Pictures of one generation on their ways through its VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from domains.inference.backends.beside import one_at_a_time
from domains.inference.backends.decoding import decode_pixels
from domains.inference.backends.encoding import encode_picture
from domains.inference.backends.enlarging import enlarge_latents
from domains.inference.backends.images import Pixels
from domains.inference.backends.start import CleanLatents
from domains.inference.backends.vae import scale_latents
from domains.inference.backends.vae_part import Vae
from domains.inference.backends.vae_run import Tiling
from domains.values import Degradation


@dataclass(frozen=True)
class ThroughVae:
    """Decodes and encodes with `vae`, one thread at a time.

    `tiling` is whether that may be done otherwise than whole, `check_stop` may raise to stop,
    `note` hears what was done otherwise than planned, `do` does it in the thread for it.
    """

    vae: Vae
    tiling: Tiling
    check_stop: Callable[[], None]
    note: Callable[[Iterable[Degradation]], None]
    do: Callable[[Callable[[], Any]], Any]

    def pixels(self, latents: torch.Tensor) -> Pixels:
        """A picture of its latents, as `decode_pixels`."""
        pixels: Pixels
        pixels, degradations = self.do(partial(self._through, decode_pixels, latents))
        self.note(degradations)
        return pixels

    def latents(self, image: torch.Tensor) -> CleanLatents:
        """The latents of a picture, as `encode_picture`."""
        posterior, degradations = self.do(partial(self._through, encode_picture, image))
        self.note(degradations)
        return lambda noise: scale_latents(posterior.sample(noise), self.vae.config)

    def larger_latents(self, latents: torch.Tensor, width: int, height: int) -> CleanLatents:
        """Latents in the size of a picture of that many pixels."""
        scale = self.vae.pixels_per_latent
        size = (height // scale, width // scale)
        larger = enlarge_latents(latents.cpu(), *size, self.vae.edges)
        return lambda noise: larger

    def _through(self, way: Callable[..., Any], given: torch.Tensor) -> Any:
        with one_at_a_time:
            return way(self.vae, given, check_stop=self.check_stop, tiling=self.tiling)
