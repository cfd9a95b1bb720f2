"""Whether a ControlNet goes with a checkpoint's UNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loaded_network import LoadedNetwork

_SAME = {
    "in_channels": "channels of latents",
    "block_out_channels": "channels of blocks",
    "layers_per_block": "layers in a block",
    "cross_attention_dim": "numbers in a token of text",
    "addition_embed_type": "kind of further inputs",
    "projection_class_embeddings_input_dim": "numbers in further inputs",
}
_COLOURS = 3


def check_control_net(network: LoadedNetwork, model: LoadedModel, field: str) -> None:
    """Refuse a ControlNet that was not made for such a UNet.

    Args:
        network: The ControlNet.
        model: The checkpoint.
        field: Where the request names the ControlNet.

    Raises:
        FailedPrecondition: MODEL_INCOMPATIBLE, naming both.
    """
    for what, its, wanted in _differences(network, model):
        raise FailedPrecondition(
            f"ControlNet {network.model_id} has {its} as its {what}, and {model.model_id} "
            f"needs {wanted}; choose a ControlNet that was made for this model.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"model_id": network.model_id, "field": field},
        )


def _differences(
    network: LoadedNetwork, model: LoadedModel
) -> Iterator[tuple[str, object, object]]:
    net: Any = network.module.config
    unet: Any = model.networks["unet"].config
    blocks = len(unet.block_out_channels)
    for key, what in _SAME.items():
        its, wanted = (_listed(getattr(config, key), blocks) for config in (net, unet))
        if key == "in_channels":
            # A UNet for inpainting has a mask and a picture beside the latents.
            wanted = _listed(model.plan_config("vae")["latent_channels"], blocks)
        if its != wanted:
            yield what, getattr(net, key), getattr(unet, key)
    scale = 2 ** (len(net.conditioning_embedding_out_channels) - 1)
    if scale != model.pixels_per_latent:
        yield "pixels along the edge of a latent", scale, model.pixels_per_latent
    if net.conditioning_channels != _COLOURS:
        yield "channels of control pictures", net.conditioning_channels, _COLOURS
    if net.class_embed_type is not None or net.num_class_embeds is not None:
        yield "classes", net.num_class_embeds or net.class_embed_type, "none"


def _listed(value: Any, blocks: int) -> Any:
    """One number for all blocks as one for each."""
    if isinstance(value, int):
        return (value,) * blocks
    return tuple(value) if isinstance(value, list | tuple) else value
