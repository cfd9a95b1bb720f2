"""The behaviour of the model domain."""

from domains.model.core.caching import Caching
from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.loading import Loads

__all__ = ["Caching", "Loads", "ModelCatalogue"]
