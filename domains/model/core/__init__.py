"""The behaviour of the model domain."""

from domains.model.core.catalogue import ModelCatalogue

__all__ = ["ModelCatalogue"]
