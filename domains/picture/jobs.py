"""What an inspector can be asked to do with a picture that nobody vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from domains.codec import Seconds, Value
from domains.picture.types import (
    Canvas,
    ControlPreprocessor,
    PictureMetadata,
    PreparedPicture,
    ResizeFit,
)
from domains.session.jobs import Job
from domains.session.types import Edge

Brightness = Annotated[int, Meta(ge=0, le=255)]


class PictureReport(Value, frozen=True):
    """The prepared picture's size, and the picture's own once it is upright, in pixels;
    of a grey one the darkest and brightest pixel of the prepared picture; whether its pixels
    have an alpha; what else its file says, where that was asked for."""

    width: Edge
    height: Edge
    source_width: Edge
    source_height: Edge
    darkest: Brightness = 0
    brightest: Brightness = 255
    alpha: bool = False
    metadata: PictureMetadata | None = None


class MetadataWish(Value, frozen=True):
    """What a file says beside its pixels is wanted, its generation parameters if they are."""

    parameters: bool = True


class PictureJob(Job[PictureReport], frozen=True):
    """Decode the picture at `source`, bring it to the canvas, make a control picture of it
    where `control` says how, and write its pixels to `target`, as `PreparedPicture` says. Of
    a `grey` one its alpha does not count; otherwise it is laid on white, or kept with
    `keep_alpha` where a pixel is not opaque. Its `metadata` is told where that is asked for."""

    source: Path
    target: Path
    canvas: Canvas
    fit: ResizeFit
    control: ControlPreprocessor | None = None
    grey: bool = False
    keep_alpha: bool = False
    metadata: MetadataWish | None = None


class ThumbnailReport(Value, frozen=True):
    """The small picture's size in pixels."""

    width: Edge
    height: Edge


class ThumbnailJob(Job[ThumbnailReport], frozen=True):
    """Decode the picture at `source`, make it so small that its longer edge has at most
    `edge_pixels`, and write it to `target` as a WebP, with an alpha where a pixel is not
    opaque."""

    source: Path
    target: Path
    edge_pixels: Edge


class ControlImageReport(Value, frozen=True):
    """Seconds that making a control picture and encoding it took."""

    prepare_input: Seconds
    encode_image: Seconds


class ControlImageJob(Job[ControlImageReport], frozen=True):
    """Make a control picture of a prepared one, and write it to `target` as a PNG of the same
    size."""

    source: PreparedPicture
    target: Path
    control: ControlPreprocessor
