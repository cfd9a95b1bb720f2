"""The behaviour of the model domain."""

from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.imports import Imports
from domains.model.core.loading import Loads

__all__ = ["Imports", "Loads", "ModelCatalogue"]
