"""The VAE that a picture goes through: the checkpoint's own, or another in its place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from domains.inference.backends.beside import NotBeside
from domains.inference.backends.device import Numerics
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.inference.backends.seamless import NO_EDGES, Edges
from domains.model.backends.bounds import Config
from domains.model.backends.sizes import pixels_per_latent

_NAME = "vae"


@dataclass(frozen=True)
class Vae:
    """A VAE at work with a model's other networks.

    `holder` is what it was loaded with: the model itself, or a model that is a VAE. `edges` are
    those of its pictures that continue at the opposite ones.
    """

    model: LoadedModel
    holder: LoadedModel | LoadedNetwork
    edges: Edges = NO_EDGES

    @property
    def network(self) -> nn.Module:
        """An autoencoder, in `numerics`."""
        return self.holder.networks[_NAME]

    @property
    def config(self) -> Config:
        """Its configuration."""
        return self.holder.plan_config(_NAME)

    @property
    def numerics(self) -> Numerics:
        """What it computes in at the moment."""
        if isinstance(self.holder, LoadedModel):
            return self.holder.vae_numerics
        return self.holder.numerics

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.holder.device

    @property
    def pixels_per_latent(self) -> int:
        """Pixels along an edge that one latent stands for."""
        return pixels_per_latent(self.config)

    @property
    def in_tiles(self) -> bool:
        """Whether the device's profile has it work in tiles."""
        return self.model.vae_tiling

    def widen(self) -> bool:
        """Have it compute in float32 from here on; False where it does already."""
        return self.holder.widen_vae()

    def make_room(self) -> None:
        """Let go of what the device holds and can have again."""
        self.model.make_room()


class VaeBeside(Vae):
    """The same at work beside the main thread, which alone changes it and makes room."""

    @classmethod
    def of(cls, vae: Vae) -> VaeBeside:
        """A VAE's."""
        return cls(vae.model, vae.holder, vae.edges)

    def widen(self) -> bool:
        """Not here."""
        raise NotBeside

    def make_room(self) -> None:
        """Not here."""
        raise NotBeside


def own_vae(model: LoadedModel) -> Vae:
    """A model's own."""
    return Vae(model, model)
