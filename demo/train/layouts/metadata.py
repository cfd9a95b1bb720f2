"""What a file says about itself in its header.

Tensor names tell the architecture, not the settings that leave no trace in shapes: how many
heads attention has, which activation an encoder uses, and which tokenizer it was trained with.
`deviceops.configuration` names the folder that has those, next to the file or in demo/configs.

Source of the other keys: Stability AI, "Model Metadata Standard" (modelspec) 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LICENCE = "MIT"
RESOLUTION = "256x256"


def header(
    *,
    title: str,
    architecture: str,
    description: str,
    configuration: str | None = None,
    trigger_words: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """A file's metadata.

    Args:
        title: Shown to people.
        architecture: As modelspec names it, such as "stable-diffusion-xl-v1-base".
        description: One sentence.
        configuration: The folder with configurations and tokenizers, such as "emoji-xl".
        trigger_words: Words in a prompt that call the effect.
        more: Further keys.
    """
    told = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.architecture": architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.description": description,
        "modelspec.license": LICENCE,
        "modelspec.resolution": RESOLUTION,
    }
    if configuration is not None:
        told["deviceops.configuration"] = configuration
    if trigger_words:
        told["modelspec.trigger_phrase"] = ", ".join(trigger_words)
    return {**told, **(more or {})}
