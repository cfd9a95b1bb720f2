"""A network that is a model of its own, on its device: a VAE, a ControlNet, a text encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from domains.inference.backends.device import Numerics
from domains.inference.backends.loaded import Loaded
from domains.inference.backends.precision import apply
from domains.inference.backends.wanted import WantedModel
from domains.model.backends.bounds import Config
from domains.model.backends.model_plan import NetworkPlan
from domains.model.types import ModelType


@dataclass(kw_only=True)
class LoadedNetwork(Loaded):
    """One network, to be used with the networks of a checkpoint.

    Requests never change it, but for a VAE that overflows: its `numerics` are float32 from
    then on.
    """

    type: ModelType
    plan: NetworkPlan
    numerics: Numerics

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.networks[self.plan.name]

    def plan_config(self, network: str) -> Config:
        """See `Loaded`; it has one network."""
        return self.plan.config

    def widen_vae(self) -> bool:
        """See `Loaded`."""
        if self.numerics.data_type is torch.float32:
            return False
        self.numerics = Numerics(torch.float32)
        apply(self.module, self.numerics)
        return True

    def serves(self, wanted: WantedModel) -> bool:
        """Whether it is the one, computing as is asked for; whoever leaves that open takes
        it as it is."""
        return (self.place, self.type) == (wanted.place, wanted.type) and (
            wanted.data_types in ((), self.chosen)
        )

    def wanted(self) -> WantedModel:
        """See `Loaded`."""
        return WantedModel(self.model_id, self.place, data_types=self.chosen, type=self.type)
