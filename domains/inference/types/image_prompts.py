"""Pictures that a generation reads as prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from domains.codec import FEW, Measure, Value
from domains.inference.types.passes import Share
from domains.limits import default_of
from domains.picture.types import InputImage, PictureFile


class ImagePrompt(Value, frozen=True):
    """An IP-Adapter and its share: how strongly it works, and between which shares of steps.

    `image_encoder_model_id` is what reads the pictures for it; resolved settings name it.
    `images` are the pictures, `mask` is where they work; they are empty or None until they were
    prepared.
    """

    model_id: Annotated[str, Meta(max_length=256)] = ""
    image_encoder_model_id: Annotated[str, Meta(max_length=256)] = ""
    scale: Measure = default_of("ImagePrompt.scale")
    start: Share = default_of("ImagePrompt.start")
    end: Share = default_of("ImagePrompt.end")
    images: Annotated[tuple[PictureFile, ...], FEW] = ()
    mask: PictureFile | None = None


@dataclass(frozen=True)
class ImagePromptInput:
    """The pictures of an image prompt as a client names them."""

    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None
