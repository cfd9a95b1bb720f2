"""Keeps the model libraries off the network, whatever a model's files ask for."""

from __future__ import annotations

import importlib
import sys


def forbid_network() -> None:
    """Tell the Hugging Face libraries that they are offline.

    They read environment variables once, at import; this sets the values those became,
    so it works without touching the environment and also after they were imported.
    """
    constants = importlib.import_module("huggingface_hub.constants")
    constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    # Transformers before 5 keeps a copy of its own.
    transformers_hub = sys.modules.get("transformers.utils.hub")
    if transformers_hub is not None and hasattr(transformers_hub, "_is_offline_mode"):
        transformers_hub._is_offline_mode = True  # type: ignore[attr-defined]
