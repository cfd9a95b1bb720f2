"""Input pictures between proto and values."""

from __future__ import annotations

from deviceops.v1 import common_pb2
from domains.conversions import EnumMap
from domains.picture.types import InputImage, PictureFile, ResizeFit

FITS = EnumMap(ResizeFit, common_pb2.ResizeFit, "RESIZE_FIT_")


def image_from_proto(message: common_pb2.InputImage) -> InputImage:
    """Which picture a client names, unchecked."""
    match message.WhichOneof("source"):
        case "inline":
            return InputImage(inline=message.inline)
        case "artifact_id":
            return InputImage(artifact_id=message.artifact_id)
        case "session_image":
            named = message.session_image
            return InputImage(session_id=named.session_id, image_index=named.image_index)
    return InputImage()


def image_to_proto(file: PictureFile | None) -> common_pb2.InputImage | None:
    """The picture that was used, as a client would name it again; None for one that came
    inline."""
    if file is None or not file.artifact:
        return None
    return common_pb2.InputImage(artifact_id=file.sha256)
