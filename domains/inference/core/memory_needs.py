"""What a generation takes of a device's memory in each of its phases, from shapes alone.

The factors are the most that is alive at once of a network's largest tensors, counted over the
networks' calls in diffusers with attention that keeps no matrix of weights: `bench.estimates`
counts them again, and compares what is told here with what a device measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domains.inference.types import (
    GenerationSettings,
    PrecisionMode,
    asked_together,
    most_in_a_union,
)
from domains.model.core.enlarging import (
    FOREIGN_NUMBERS_PER_PIXEL,
    TILE_ON_DEVICE,
    TILE_ON_PROCESSOR,
    Size,
    tile_bytes,
)
from domains.model.core.room import picture_bytes, step_bytes
from domains.model.types import Component, Enlargement, Model
from domains.session.types import Phase
from domains.values import Toggle

FULL, HALF = 4, 2
"""Bytes of a number."""
# Times the VAE's first channels at the picture's size.
ENCODE = 5
_PIXELS_PER_LATENT = 8
_TILE_PIXELS = 512
_COLOURS = 3
# Of upscalers of kinds that only their worker knows.
_USUAL_FACTOR = 4


def phase_bytes(
    model: Model,
    vae: Model,
    settings: GenerationSettings,
    upscaler: Model | None = None,
    *,
    number: int,
    in_main_memory: bool = True,
) -> Mapping[Phase, int]:
    """What each phase takes beside the weights, of those in which networks work.

    Args:
        model: Draws.
        vae: Has the VAE that is used; the same one, as a rule.
        settings: Resolved.
        upscaler: What enlarges pictures for their second pass.
        number: Bytes of one number on the device, HALF or FULL.
        in_main_memory: Whether the device is a processor, or works in its memory.
    """
    # A second pass is the larger one.
    width, height = settings.result_size
    needs: dict[Phase, int] = {Phase.ENCODING_TEXT: 0}
    unet, autoencoder = _part(model.components, "unet"), _part(vae.components, "vae")
    if autoencoder is not None and autoencoder.widths:
        its = FULL if autoencoder.full_precision else number
        edge = _TILE_PIXELS if settings.vae_tiling is Toggle.ON else max(width, height)
        wide, high = min(width, edge), min(height, edge)
        if settings.passes[-1].start is not None:
            first = autoencoder.widths[0]
            needs[Phase.PREPARING_INPUT] = ENCODE * first * wide * high * its
        last = autoencoder.widths[:2][-1]
        needs[Phase.DECODING] = picture_bytes(last, wide, high, its)
    if upscaler is not None:
        exact = settings.precision is not PrecisionMode.FASTEST
        enlarging = _enlarging(
            upscaler, settings.size, FULL if exact else number, in_main_memory=in_main_memory
        )
        needs[Phase.PREPARING_INPUT] = max(needs.get(Phase.PREPARING_INPUT, 0), enlarging)
    if unet is not None and unet.widths:
        latents = (width // _PIXELS_PER_LATENT) * (height // _PIXELS_PER_LATENT)
        batch = 2 if settings.guidance.guided else 1
        needs[Phase.DENOISING] = step_bytes(
            unet.widths[0],
            latents,
            attends_at_full_size=unet.attends_at_full_size,
            rows=batch,
            number=number,
            controlled=bool(settings.control_nets),
            union_pictures=most_in_a_union(settings.control_nets),
            several=len(asked_together(settings.control_nets)) > 1,
        )
        # Each keeps its picture, once for the whole batch.
        pictures = len(settings.control_nets) * _COLOURS * width * height
        needs[Phase.DENOISING] += pictures * number
    return needs


def _enlarging(upscaler: Model, size: Size, number: int, *, in_main_memory: bool) -> int:
    """What an upscaler's pass over a picture of that size takes beside its weights."""
    own = upscaler.enlargement or Enlargement(_USUAL_FACTOR, FOREIGN_NUMBERS_PER_PIXEL)
    edge = TILE_ON_PROCESSOR if in_main_memory else TILE_ON_DEVICE
    tile = min(edge, size[0]), min(edge, size[1])
    return tile_bytes(tile, size[0], own.factor, own.numbers_per_pixel, number)


def _part(components: Sequence[Component], name: str) -> Component | None:
    """The network of that name; a file of one network alone calls it as it likes."""
    shaped = [part for part in components if part.widths]
    named = [part for part in shaped if part.name == name]
    if named:
        return named[0]
    return shaped[0] if len(components) == 1 and shaped else None
