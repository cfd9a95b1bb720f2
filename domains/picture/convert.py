"""Input pictures between proto and values."""

from __future__ import annotations

from typing import get_args

from deviceops.v1 import common_pb2, conditioning_pb2, inference_pb2
from domains.codec import Value
from domains.conversions import EnumMap, digest, scalars_from, wished
from domains.picture import types
from domains.picture.core.control_images import ControlImageRequest
from domains.picture.types import InputImage, PictureFile, ResizeFit
from domains.session.convert import options_from_proto

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


_OPTIONS: dict[str, type[Value]] = {kind.field: kind for kind in get_args(types.ControlOptions)}


def preprocessor_from_proto(
    message: conditioning_pb2.ControlPreprocessor,
) -> types.ControlPreprocessor | None:
    """What makes a control picture, unchecked; None where nothing does, or a model."""
    field = message.WhichOneof("preprocessor")
    if field not in _OPTIONS:
        return None
    kind = _OPTIONS[field]
    return types.ControlPreprocessor(
        kind(**scalars_from(getattr(message, field), kind)),  # type: ignore[arg-type]
        message.resolution_pixels,
    )


def preprocessor_to_proto(
    preprocessor: types.ControlPreprocessor,
) -> conditioning_pb2.ControlPreprocessor:
    """As a client would ask for it, with every default filled in."""
    options = preprocessor.options
    result = conditioning_pb2.ControlPreprocessor(
        resolution_pixels=preprocessor.resolution_pixels
    )
    made = getattr(result, options.field)
    made.SetInParent()
    for name in options.__struct_fields__:
        setattr(made, name, getattr(options, name))
    return result


def control_request_from_proto(
    message: inference_pb2.PreviewControlImageRequest,
) -> ControlImageRequest:
    """One call of PreviewControlImage, unchecked."""
    return ControlImageRequest(
        image=image_from_proto(message.image),
        preprocessor=preprocessor_from_proto(message.preprocessor),
        width=wished(message, "width"),
        height=wished(message, "height"),
        options=options_from_proto(message.options),
        digest=digest(message),
        placed=message.HasField("placement"),
        unbuilt=("preprocessor.postprocessor_id",)
        if message.preprocessor.WhichOneof("preprocessor") == "postprocessor_id"
        else (),
    )
