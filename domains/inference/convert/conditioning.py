"""What a generation follows beside its text, between proto and values: ControlNets and image
prompts."""

from __future__ import annotations

from collections.abc import Iterable

from deviceops.v1 import common_pb2, conditioning_pb2
from domains.conversions import EnumMap, scalars_from, scalars_of, wished
from domains.inference import types
from domains.picture.convert import (
    FITS,
    image_from_proto,
    image_to_proto,
    preprocessor_from_proto,
    preprocessor_to_proto,
)
from domains.picture.types import PictureFile, ResizeFit
from domains.values import ControlNetType

CONTROL_NET_TYPES = EnumMap(
    ControlNetType, conditioning_pb2.ControlNetType, "CONTROL_NET_TYPE_"
)


def control_input(message: conditioning_pb2.ControlNetGuidance) -> types.ControlInput:
    """The pictures of a ControlNet, as the client names them."""
    return types.ControlInput(
        wished(message, "image", image_from_proto),
        tuple(map(image_from_proto, message.images)),
        wished(message, "mask", image_from_proto),
    )


def control_net_from_proto(
    message: conditioning_pb2.ControlNetGuidance,
) -> types.ControlNetGuidance:
    """A ControlNet without its pictures, unchecked."""
    return types.ControlNetGuidance(
        **scalars_from(message, types.ControlNetGuidance),
        preprocessor=preprocessor_from_proto(message.preprocessor),
        control_type=CONTROL_NET_TYPES.optional_from_proto(
            message.control_type, field="control_nets.control_type"
        ),
        fit=FITS.from_proto(message.fit, ResizeFit.STRETCH),
    )


def control_net_to_proto(
    net: types.ControlNetGuidance,
) -> conditioning_pb2.ControlNetGuidance:
    """A ControlNet as a client would send it."""
    return conditioning_pb2.ControlNetGuidance(
        **scalars_of(net, conditioning_pb2.ControlNetGuidance),
        image=image_to_proto(net.image),
        preprocessor=None
        if net.preprocessor is None
        else preprocessor_to_proto(net.preprocessor),
        control_type=CONTROL_NET_TYPES.to_proto(net.control_type),
        fit=FITS.to_proto(net.fit),
        mask=image_to_proto(net.mask),
        images=_images(net.images),
    )


def image_prompt_input(message: conditioning_pb2.ImagePrompt) -> types.ImagePromptInput:
    """The pictures of an image prompt, as the client names them."""
    return types.ImagePromptInput(
        tuple(map(image_from_proto, message.images)),
        wished(message, "mask", image_from_proto),
    )


def image_prompt_from_proto(message: conditioning_pb2.ImagePrompt) -> types.ImagePrompt:
    """An image prompt without its pictures, unchecked."""
    return types.ImagePrompt(**scalars_from(message, types.ImagePrompt))


def image_prompt_to_proto(prompt: types.ImagePrompt) -> conditioning_pb2.ImagePrompt:
    """An image prompt as a client would send it."""
    return conditioning_pb2.ImagePrompt(
        **scalars_of(prompt, conditioning_pb2.ImagePrompt),
        images=_images(prompt.images),
        mask=image_to_proto(prompt.mask),
    )


def _images(files: Iterable[PictureFile]) -> list[common_pb2.InputImage]:
    """One for each; one that came inline names nothing."""
    return [image_to_proto(each) or common_pb2.InputImage() for each in files]
