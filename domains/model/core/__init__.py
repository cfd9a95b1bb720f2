"""The behaviour of the model domain."""

from domains.model.core.catalogue import ModelCatalogue
from domains.model.core.checking import Checks
from domains.model.core.conversions import Conversions
from domains.model.core.loading import Loads

__all__ = ["Checks", "Conversions", "Loads", "ModelCatalogue"]
