"""The behaviour of the model domain."""

from __future__ import annotations

from dataclasses import dataclass

from domains.model.core.benchmarks import Benchmarks
from domains.model.core.caching import Caching
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.changes import ModelChanges
from domains.model.core.checking import Checks
from domains.model.core.conversions import Conversions
from domains.model.core.copies import Copies
from domains.model.core.estimates import Estimates
from domains.model.core.imports import Imports
from domains.model.core.loading import Loads
from domains.model.core.optimizing import Optimizing
from domains.model.core.refreshes import Refreshes
from domains.model.core.status import ModelStatuses
from domains.model.core.unloading import Unloads
from domains.model.core.upkeep import Upkeep
from domains.model.core.use import ModelUse

__all__ = [
    "Benchmarks",
    "Caching",
    "Checks",
    "Conversions",
    "Copies",
    "Estimates",
    "Imports",
    "Loads",
    "ModelCatalogue",
    "ModelService",
    "ModelStatuses",
    "ModelUse",
    "Optimizing",
    "Unloads",
    "Upkeep",
]


@dataclass(frozen=True)
class ModelService:
    """What the domain offers to clients, by what they ask about."""

    catalogue: ModelCatalogue
    changes: ModelChanges
    refreshes: Refreshes
    caching: Caching
    loads: Loads
    unloads: Unloads
    statuses: ModelStatuses
    benchmarks: Benchmarks
    checks: Checks
    conversions: Conversions
    optimizing: Optimizing
    imports: Imports
    upkeep: Upkeep
