"""ControlNets and control pictures, by the options of `generate` and `preview-control`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deviceops.v1 import conditioning_pb2, generation_pb2
from server.cli.choices import UnusableOptions
from server.cli.field_values import Picture
from server.cli.named_pictures import parse_named_picture

CONTROL_FORM = "ID[=TYPE]:PICTURE[:SCALE[:START[:END]]]"
PREPROCESSOR_FORM = (
    "canny[:LOW:HIGH], soft-edge[:RADIUS], line-art[:THRESHOLD], scribble[:STROKE], grey,"
    " tile[:FACTOR], face-mask[:PADDING]; @PIXELS after it is the longer side that it works at"
)
_TYPE_PREFIX = "CONTROL_NET_TYPE_"
_UNTOLD = conditioning_pb2.CONTROL_NET_TYPE_UNSPECIFIED
_Number = Callable[[str], float]
# Fields of each kind's options, and what reads their numbers.
_KINDS: dict[str, tuple[tuple[str, ...], _Number]] = {
    "canny": (("low", "high"), int),
    "soft-edge": (("radius_pixels",), float),
    "line-art": (("threshold",), int),
    "scribble": (("stroke_pixels",), int),
    "grey": ((), int),
    "tile": (("factor",), int),
    "face-mask": (("padding",), float),
}


@dataclass(frozen=True)
class ControlOptions:
    """`controls` name ControlNets and pictures; `preprocessors` are one for all of them, or
    one for each."""

    controls: tuple[str, ...] = ()
    preprocessors: tuple[str, ...] = ()


def put_control_nets(
    settings: generation_pb2.GenerationSettings, options: ControlOptions, picture: Picture
) -> None:
    """Write what is asked for into the settings.

    Raises:
        UnusableOptions: An option is of another form, or a picture cannot be read.
    """
    count, hows = len(options.controls), options.preprocessors
    if hows and not count:
        raise UnusableOptions("--preprocess is about a picture: name it with --control")
    if len(hows) not in (0, 1, count):
        raise UnusableOptions("--preprocess comes once, or once for each --control")
    if count:
        del settings.control_nets[:]  # those of a picture that this one is to be like
    for index, text in enumerate(options.controls):
        net = settings.control_nets.add()
        net.CopyFrom(_parse_control(text, picture))
        if hows:
            net.preprocessor.CopyFrom(parse_preprocessor(hows[index if len(hows) > 1 else 0]))


def parse_preprocessor(text: str) -> conditioning_pb2.ControlPreprocessor:
    """What makes a control picture, as `PREPROCESSOR_FORM` says. Raises UnusableOptions."""
    form = UnusableOptions(f"--preprocess: {text!r} is none of {PREPROCESSOR_FORM}")
    named, _, resolution = text.partition("@")
    kind, *values = named.split(":")
    if kind not in _KINDS:
        raise form
    fields, read = _KINDS[kind]
    if len(values) > len(fields):
        raise form
    result = conditioning_pb2.ControlPreprocessor()
    options = getattr(result, kind.replace("-", "_"))
    options.SetInParent()
    try:
        if resolution:
            result.resolution_pixels = int(resolution)
        for field, value in zip(fields, values, strict=False):
            setattr(options, field, read(value))
    except ValueError:
        raise form from None
    return result


def _parse_control(text: str, picture: Picture) -> conditioning_pb2.ControlNetGuidance:
    named = parse_named_picture(text, "--control", CONTROL_FORM)
    model_id, told, control_type = named.model.partition("=")
    if not model_id:
        raise UnusableOptions(f"--control: {text!r} is not {CONTROL_FORM}")
    return conditioning_pb2.ControlNetGuidance(
        model_id=model_id,
        control_type=_parse_type(control_type) if told else _UNTOLD,
        image=picture(named.picture),
        conditioning_scale=named.scale,
        start=named.start,
        end=named.end,
    )


def _parse_type(text: str) -> conditioning_pb2.ControlNetType.ValueType:
    """What a union takes the picture for, by its name in the contract."""
    names = conditioning_pb2.ControlNetType.keys()[1:]
    known = {name.removeprefix(_TYPE_PREFIX).lower().replace("_", "-"): name for name in names}
    if text not in known:
        raise UnusableOptions(f"--control: TYPE {text!r} is none of {', '.join(known)}")
    return conditioning_pb2.ControlNetType.Value(known[text])
