"""What a device holds of one model in the catalogue."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime

import torch
from torch import nn

from domains.device.types import LoadedComponent
from domains.inference.backends.device import DATA_TYPES
from domains.inference.backends.walk import (
    buffers_of,
    data_type_of,
    modules_of,
    parameters_of,
)
from domains.inference.backends.wanted import WantedModel
from domains.model.backends.bounds import Config
from domains.model.backends.confined_files import Fingerprint
from domains.values import ByteFigure, ModelOrigin, ModelPlace, PartDataType


@dataclass(frozen=True)
class _Tally:
    """What one network holds. It is counted again once another one stands in its place or it
    was brought into another type, which is done to all of a network: counting takes as long as
    a step of a small picture, and is asked for several times in each."""

    network: weakref.ref[nn.Module]
    seen_type: torch.dtype | None
    size: int
    types: frozenset[torch.dtype]

    @classmethod
    def of(cls, network: nn.Module) -> _Tally:
        modules = modules_of(network)
        parameters = parameters_of(modules)
        size = sum(tensor.nbytes for tensor in (*parameters, *buffers_of(modules)))
        types = frozenset(tensor.dtype for tensor in parameters)
        return cls(weakref.ref(network), data_type_of(network), size, types)

    def holds(self, network: nn.Module) -> bool:
        """Whether it still is so."""
        return self.network() is network and self.seen_type is data_type_of(network)


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
    _tallies: dict[str, _Tally] = field(init=False, default_factory=dict)

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
            tally = self._tallies.get(name)
            if tally is None or not tally.holds(network):
                tally = self._tallies[name] = _Tally.of(network)
            only = next(iter(tally.types)) if len(tally.types) == 1 else None
            found.append(
                LoadedComponent(
                    model_id=self.model_id,
                    component=name,
                    size=ByteFigure.measured(tally.size, "sum of torch.Tensor.nbytes"),
                    data_type=None if only is None else DATA_TYPES.get(only),
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
