"""Settings of the model libraries that hold for the whole process."""

from __future__ import annotations

import sys

import diffusers.utils.logging
import huggingface_hub.constants
import transformers.utils.logging


def settle_libraries() -> None:
    """Keep the Hugging Face libraries off the network, and quiet below errors.

    They read environment variables once, at import; this sets the values those became,
    so it works without touching the environment. Their warnings concern programmers, and
    a few quote prompts, which never belong in a log.
    """
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    # Transformers before 5 keeps a copy of its own.
    transformers_hub = sys.modules.get("transformers.utils.hub")
    if hasattr(transformers_hub, "_is_offline_mode"):
        transformers_hub._is_offline_mode = True  # type: ignore[union-attr]
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
