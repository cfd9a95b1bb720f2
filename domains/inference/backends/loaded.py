"""What a device holds of one model in the catalogue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch
from torch import nn

from domains.device.types import LoadedComponent
from domains.inference.backends.device import DATA_TYPES
from domains.inference.backends.walk import buffers_of, modules_of, parameters_of
from domains.inference.backends.wanted import WantedModel
from domains.model.backends.bounds import Config
from domains.model.backends.confined_files import Fingerprint
from domains.values import ByteFigure, ModelOrigin, ModelPlace, PartDataType


@dataclass(kw_only=True)
class Loaded(ABC):
    """Networks of one model on one device, by name, and where they came from.

    `chosen` are the data types that whoever loaded it asked for; `preview_matrix` is fitted to
    its VAE once previews were asked for; `origin` is where it was before.
    """

    model_id: str
    place: ModelPlace
    fingerprint: Fingerprint
    device: torch.device
    networks: dict[str, nn.Module]
    chosen: tuple[PartDataType, ...] = ()
    preview_matrix: torch.Tensor | None = None
    origin: ModelOrigin = ModelOrigin.DISK
    load_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    last_use: datetime = field(default_factory=lambda: datetime.now(UTC))

    @abstractmethod
    def wanted(self) -> WantedModel:
        """What would load it again."""

    @abstractmethod
    def plan_config(self, network: str) -> Config:
        """The checked configuration of one network."""

    @abstractmethod
    def widen_vae(self) -> bool:
        """Have its VAE compute in float32 from here on; False where it does already."""

    def components(self) -> tuple[LoadedComponent, ...]:
        """Its networks, with the bytes and the element type of their tensors."""
        found = []
        for name, network in self.networks.items():
            modules = modules_of(network)
            parameters = parameters_of(modules)
            size = sum(tensor.nbytes for tensor in (*parameters, *buffers_of(modules)))
            types = {tensor.dtype for tensor in parameters}
            found.append(
                LoadedComponent(
                    model_id=self.model_id,
                    component=name,
                    size=ByteFigure.measured(size, "sum of torch.Tensor.nbytes"),
                    data_type=DATA_TYPES.get(types.pop()) if len(types) == 1 else None,
                    last_use_time=self.last_use,
                    load_time=self.load_time,
                    origin=self.origin,
                )
            )
        return tuple(found)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(part.size.value or 0 for part in self.components())
