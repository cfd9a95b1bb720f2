"""What a generation starts from, between proto and values."""

from __future__ import annotations

from deviceops.v1 import generation_pb2
from domains.conversions import EnumMap, scalars_from, scalars_of
from domains.inference.types import ImageToImage, Inpainting, InpaintingFill, OutpaintingMargins
from domains.picture.convert import FITS, image_from_proto, image_to_proto
from domains.picture.types import InputImage, ResizeFit

FILLS = EnumMap(InpaintingFill, generation_pb2.InpaintingFill, "INPAINTING_FILL_")


def image_to_image_from_proto(
    message: generation_pb2.GenerationSettings,
) -> ImageToImage | None:
    """Image-to-image, where it is asked for."""
    if not message.HasField("image_to_image"):
        return None
    start = message.image_to_image
    return ImageToImage(
        **scalars_from(start, ImageToImage), fit=FITS.from_proto(start.fit, ResizeFit.STRETCH)
    )


def inpainting_from_proto(message: generation_pb2.GenerationSettings) -> Inpainting | None:
    """Inpainting, where it is asked for."""
    if not message.HasField("inpainting"):
        return None
    start = message.inpainting
    return Inpainting(
        **scalars_from(start, Inpainting),
        fill=FILLS.from_proto(start.fill, InpaintingFill.ORIGINAL),
        fit=FITS.from_proto(start.fit, ResizeFit.STRETCH),
        margins=OutpaintingMargins(**scalars_from(start.margins, OutpaintingMargins)),
    )


def images_from_proto(
    message: generation_pb2.GenerationSettings,
) -> tuple[InputImage | None, InputImage | None]:
    """The picture to start from and its mask, as the client names them."""
    mode = message.WhichOneof("mode")
    if mode is None:
        return None, None
    image = image_from_proto(getattr(message, mode).image)
    if mode == "image_to_image" or not message.inpainting.HasField("mask"):
        return image, None
    return image, image_from_proto(message.inpainting.mask)


def put_start(
    start: ImageToImage | Inpainting | None, result: generation_pb2.GenerationSettings
) -> None:
    """Write it into settings as a client would send them."""
    if isinstance(start, ImageToImage):
        result.image_to_image.CopyFrom(
            generation_pb2.ImageToImage(
                **scalars_of(start, generation_pb2.ImageToImage),
                image=image_to_proto(start.image),
                fit=FITS.to_proto(start.fit),
            )
        )
    elif start is not None:
        result.inpainting.CopyFrom(
            generation_pb2.Inpainting(
                **scalars_of(start, generation_pb2.Inpainting),
                image=image_to_proto(start.image),
                mask=image_to_proto(start.mask),
                fill=FILLS.to_proto(start.fill),
                fit=FITS.to_proto(start.fit),
            )
        )
        if start.margins:
            margins = scalars_of(start.margins, generation_pb2.OutpaintingMargins)
            result.inpainting.margins.CopyFrom(generation_pb2.OutpaintingMargins(**margins))
