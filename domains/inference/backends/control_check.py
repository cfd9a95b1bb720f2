"""Whether a ControlNet goes with a checkpoint's UNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domains.errors import FailedPrecondition, Reason
from domains.inference.backends.control_arguments import kind_count
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.loaded_network import LoadedNetwork
from domains.values import ControlNetType

_SAME = {
    "in_channels": "channels of latents",
    "block_out_channels": "channels of blocks",
    "layers_per_block": "layers in a block",
    "cross_attention_dim": "numbers in a token of text",
    "addition_embed_type": "kind of further inputs",
    "projection_class_embeddings_input_dim": "numbers in further inputs",
}
_COLOURS = 3


def check_control_net(
    network: LoadedNetwork, model: LoadedModel, wanted_type: ControlNetType | None, field: str
) -> None:
    """Refuse a ControlNet that was not made for such a UNet, or not for such pictures.

    Args:
        network: The ControlNet.
        model: The checkpoint.
        wanted_type: What it shall take its picture for.
        field: Where the request has the ControlNet.

    Raises:
        FailedPrecondition: MODEL_INCOMPATIBLE, naming both that do not go together.
    """
    _check_type(network, wanted_type, f"{field}.control_type")
    for what, its, wanted in _differences(network, model):
        raise FailedPrecondition(
            f"ControlNet {network.model_id} has {its} as its {what}, and {model.model_id} "
            f"needs {wanted}; choose a ControlNet that was made for this model.",
            reason=Reason.MODEL_INCOMPATIBLE,
            metadata={"model_id": network.model_id, "field": f"{field}.model_id"},
        )


def _check_type(network: LoadedNetwork, wanted: ControlNetType | None, field: str) -> None:
    """What the catalogue says of a model was asked before; here is what its files hold now."""
    count = kind_count(network.module)
    if wanted is None and count:
        why = f"is a union of {count} kinds and was not told what it takes its picture for"
    elif wanted is not None and not count:
        why = f"is no union, and was told to take its picture for {wanted.name}"
    elif wanted is not None and wanted.number >= count:
        why = f"is a union of {count} kinds, of which {wanted.name} is none"
    else:
        return
    raise FailedPrecondition(
        f"ControlNet {network.model_id} {why}; choose another control_type, or another model.",
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
