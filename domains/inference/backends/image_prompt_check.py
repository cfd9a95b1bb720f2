"""Whether an image prompt's adapter goes with a checkpoint's UNet and with its encoder."""

from __future__ import annotations

from typing import Any

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.image_attention import crosses
from domains.inference.backends.image_prompts import LoadedImagePrompt
from domains.inference.backends.loaded_model import LoadedModel


def check_image_prompt(loaded: LoadedImagePrompt, model: LoadedModel, field: str) -> None:
    """Refuse an adapter that was not made for such a UNet, or does not read what its encoder
    gives.

    Args:
        loaded: The prompt with both.
        model: The checkpoint.
        field: Where the request has the image prompt.

    Raises:
        FailedPrecondition: MODEL_INCOMPATIBLE, naming both that do not go together.
    """
    adapter, encoder = loaded.module, loaded.encoder
    unet: Any = model.networks["unet"]
    wanted = [
        tuple(unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape)
        for name in unet.attn_processors
        if crosses(name)
    ]
    keys: Any = adapter.to_keys
    its = [tuple(layer.weight.shape) for layer in keys]
    if its != wanted:
        raise _apart(
            f"IP-Adapter {loaded.adapter.model_id} was made for a UNet with other layers than "
            f"{model.model_id} has; choose an adapter that was made for this model.",
            loaded.adapter.model_id,
            f"{field}.model_id",
        )
    config: Any = encoder.module.config
    width = config.hidden_size if adapter.reads_hidden_states else config.projection_dim
    if adapter.width != width:
        raise _apart(
            f"IP-Adapter {loaded.adapter.model_id} reads {adapter.width} numbers of a picture, "
            f"and image encoder {encoder.model_id} gives {width}; choose the encoder that the "
            "adapter was trained with.",
            encoder.model_id,
            f"{field}.image_encoder_model_id",
        )


def _apart(message: str, model_id: str, field: str) -> FailedPrecondition:
    return FailedPrecondition(
        message,
        reason=Reason.MODEL_INCOMPATIBLE,
        metadata={"model_id": model_id, "field": field},
    )
