"""The behaviour of the model domain."""

from __future__ import annotations

from dataclasses import dataclass

from domains.model.core.benchmarks import Benchmarks
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.estimates import Estimates
from domains.model.core.loading import Loads
from domains.model.core.status import ModelStatuses
from domains.model.core.unloading import Unloads
from domains.model.core.use import ModelUse

__all__ = [
    "Benchmarks",
    "Estimates",
    "Loads",
    "ModelCatalogue",
    "ModelStatuses",
    "ModelUse",
    "OnDevice",
    "Unloads",
]


@dataclass(frozen=True)
class OnDevice:
    """What is done with models on devices."""

    loads: Loads
    unloads: Unloads
    statuses: ModelStatuses
    benchmarks: Benchmarks
