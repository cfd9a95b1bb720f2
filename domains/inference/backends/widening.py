"""A UNet that computes in float32 for once, because a lower type overflowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from domains.device.backends import faults
from domains.inference.backends.compilation import without_compiled_code
from domains.inference.backends.device import Numerics, data_type_of
from domains.inference.backends.loaded_model import LoadedModel
from domains.inference.backends.precision import apply
from domains.inference.backends.second_try import with_room
from domains.values import Degradation, DegradationKind, ModelPart


def can_widen(model: LoadedModel) -> bool:
    """Whether the UNet computes in a type that has less room than float32."""
    return model.unet_numerics.data_type is not torch.float32


def degradation(model: LoadedModel, done: str) -> Degradation:
    """What is told of work that is done in float32 in place of the UNet's type now; `done` says
    what as the first word."""
    name = data_type_of(model.unet_numerics.data_type).value
    detail = f"{done} in float32, as {name} overflowed."
    return Degradation(DegradationKind.DATA_TYPE, detail, ModelPart.DENOISER)


@contextmanager
def in_float32(model: LoadedModel) -> Iterator[bool]:
    """Have the UNet compute in float32 inside; its weights are the same bits afterwards.

    Every number of a lower type is one of float32 too: there and back changes none. False
    where there is no memory for it: then it is as before.
    """
    unet, before = model.networks["unet"], model.unet_numerics
    wide = Numerics(torch.float32, before.channels_last)
    try:
        with without_compiled_code(unet):
            roomy = _widened(unet, wide, model)
            if roomy:
                model.unet_numerics = wide
            yield roomy
    finally:
        apply(unet, before)
        model.unet_numerics = before


def _widened(unet: nn.Module, wide: Numerics, model: LoadedModel) -> bool:
    try:
        with_room(partial(apply, unet, wide), model.make_room)
    except Exception as error:
        if not faults.is_shortage(error):
            raise
        faults.drop_frames(error)
        return False
    return True
