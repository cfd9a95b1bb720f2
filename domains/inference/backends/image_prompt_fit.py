"""Whether IP-Adapters fit a checkpoint and an image encoder."""

from __future__ import annotations

from domains.errors import FeatureNotBuilt
from domains.model.types import Model

_FIELDS = ["settings.image_prompts"]


class ImagePromptFits:
    """Implements the port of that name: adapters are not read yet, and every one is refused."""

    def check(self, adapter: Model, model: Model) -> None:
        """Refuse it. Raises FeatureNotBuilt."""
        raise FeatureNotBuilt(_FIELDS)

    def reads(self, adapter: Model, encoder: Model) -> bool:
        """Refuse it. Raises FeatureNotBuilt."""
        raise FeatureNotBuilt(_FIELDS)
