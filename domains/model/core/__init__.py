"""The behaviour of the model domain."""

from dataclasses import dataclass

from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.changes import ModelChanges
from domains.model.core.loading import Loads
from domains.model.core.refreshes import Refreshes

__all__ = ["Loads", "ModelCatalogue", "ModelService"]


@dataclass(frozen=True)
class ModelService:
    """What the domain offers to clients, by what they ask about."""

    catalogue: ModelCatalogue
    changes: ModelChanges
    loads: Loads
    refreshes: Refreshes
