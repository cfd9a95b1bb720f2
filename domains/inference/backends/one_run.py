"""One run of a network on made-up input, at the smallest size that a request may ask for.

On torch's meta device it works out shapes alone, in a fraction of a second for the largest of
them; elsewhere it shows whether the weights give numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from domains.inference.backends.control_arguments import control_arguments
from domains.limits import LIMITS
from domains.model.backends.bounds import Config
from domains.model.backends.families.sdxl import TIME_IDS
from domains.model.backends.sizes import pixels_per_latent
from domains.values import ControlNetType

# Guidance has two texts in a batch; CLIP's window is 77 tokens.
BATCH = 2
_TOKENS = 77
PIXELS = int(LIMITS["GenerationSettings.width"].minimum or 0)
# Neither nothing nor at the edge of what latents and pixels are.
_VALUE = 0.5


def latent_shape(vae: Config) -> tuple[int, int, int]:
    """Channels, height and width of a picture's latents, by a VAE's configuration."""
    edge = PIXELS // pixels_per_latent(vae)
    return int(vae["latent_channels"]), edge, edge


def run_unet(unet: Any, config: Config, latents: tuple[int, ...]) -> torch.Tensor:
    """What the UNet makes of latents of that shape and what comes beside them, in its type:
    `[BATCH, channels, height, width]`."""
    noise: torch.Tensor = unet(
        _made(unet, BATCH, *latents),
        torch.ones(()),
        encoder_hidden_states=_made(unet, BATCH, _TOKENS, config["cross_attention_dim"]),
        added_cond_kwargs=_added(unet, config),
        return_dict=False,
    )[0]
    return noise


def decode_once(vae: Any, config: Config) -> torch.Tensor:
    """A picture `[1, 3, height, width]` that a VAE makes of latents, in its type."""
    image: torch.Tensor = vae.decode(_made(vae, 1, *latent_shape(config)), return_dict=False)[0]
    return image


def encode_once(vae: Any, image: torch.Tensor) -> torch.Tensor:
    """The mean of the latents that a VAE makes of a picture, in its type."""
    mean: torch.Tensor = vae.encode(image).latent_dist.mean
    return mean


def run_control_net(network: Any) -> tuple[torch.Tensor, ...]:
    """What a ControlNet gives to each block of a UNet, in its type."""
    config = network.config
    # Each of its first layers but one halves the control picture.
    scale = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
    edge = PIXELS // scale
    picture = _made(network, BATCH, config["conditioning_channels"], PIXELS, PIXELS)
    blocks, middle = network(
        _made(network, BATCH, config["in_channels"], edge, edge),
        torch.ones((), device=_kind(network).device),
        encoder_hidden_states=_made(network, BATCH, _TOKENS, _text_width(config)),
        **control_arguments(network, [picture], [1.0], [next(iter(ControlNetType))]),
        added_cond_kwargs=_added(network, config),
        return_dict=False,
    )
    return (*blocks, middle)


def run_text_encoder(encoder: Any) -> tuple[torch.Tensor, ...]:
    """The last hidden state of a text of one token again and again, and what else it gives."""
    config = encoder.config
    length = min(_TOKENS, config.max_position_embeddings)
    tokens = torch.zeros(1, length, dtype=torch.long, device=_kind(encoder).device)
    found = encoder(tokens, return_dict=True)
    return tuple(value for value in found.values() if isinstance(value, torch.Tensor))


def run_image_encoder(encoder: Any) -> tuple[torch.Tensor, ...]:
    """The embedding of a picture of one colour, and its hidden state before the last layer."""
    config = encoder.config
    picture = _made(encoder, 1, config.num_channels, config.image_size, config.image_size)
    found = encoder(picture, output_hidden_states=True)
    return found.image_embeds, found.hidden_states[-2]


def run_image_prompt(adapter: Any) -> tuple[torch.Tensor, ...]:
    """The tokens of one picture, and a key and a value of each layer."""
    places = (_TOKENS,) if adapter.reads_hidden_states else ()
    tokens = adapter.projection(_made(adapter, 1, *places, adapter.width))
    return tuple(layer(tokens) for layer in (*adapter.to_keys, *adapter.to_values))


def _text_width(config: Config) -> int:
    width = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    return int(width if isinstance(width, int) else max(width))


def _added(network: nn.Module, config: Config) -> dict[str, torch.Tensor] | None:
    if config.get("addition_embed_type") is None:
        return None
    width = config["projection_class_embeddings_input_dim"]
    pooled = width - TIME_IDS * config["addition_time_embed_dim"]
    return {
        "text_embeds": _made(network, BATCH, pooled),
        "time_ids": _made(network, BATCH, TIME_IDS),
    }


def _made(network: nn.Module, *shape: int) -> torch.Tensor:
    kind = _kind(network)
    return torch.full(shape, _VALUE, dtype=kind.dtype, device=kind.device)


def _kind(network: nn.Module) -> torch.Tensor:
    return next(network.parameters())


LONE: Mapping[str, Callable[[Any], tuple[torch.Tensor, ...]]] = {
    "controlnet": run_control_net,
    "image_encoder": run_image_encoder,
    "image_prompt": run_image_prompt,
}
"""Runs of networks that take what they say themselves."""
