"""ControlNets of `deviceops generate`, and how preprocessors are named."""

from __future__ import annotations

import pytest

from deviceops.v1 import common_pb2, conditioning_pb2, generation_pb2
from server.cli.choices import UnusableOptions
from server.cli.control import ControlOptions, parse_preprocessor, put_control_nets


def settings_for(
    *controls: str, preprocessors: tuple[str, ...] = ()
) -> generation_pb2.GenerationSettings:
    settings = generation_pb2.GenerationSettings()
    put_control_nets(
        settings,
        ControlOptions(controls, preprocessors),
        lambda named: common_pb2.InputImage(inline=named.encode()),
    )
    return settings


@pytest.mark.parametrize(
    ("text", "picture", "numbers"),
    [
        ("net:a.png", "a.png", (1, 0, 1)),
        ("net:a.png:0.5", "a.png", (0.5, 0, 1)),
        ("net:a.png:0.5:0.2", "a.png", (0.5, 0.2, 1)),
        ("net:a.png:0.5:0.2:0.8", "a.png", (0.5, 0.2, 0.8)),
        ("net:C:\\pictures\\a.png:2", "C:\\pictures\\a.png", (2, 0, 1)),
        ("net:12:0.5", "12", (0.5, 0, 1)),
        ("net:12", "12", (1, 0, 1)),
    ],
)
def test_a_control_net_and_its_picture(
    text: str, picture: str, numbers: tuple[float, float, float]
) -> None:
    (net,) = settings_for(text).control_nets
    assert (net.model_id, net.image.inline) == ("net", picture.encode())
    defaults = (1, 0, 1)
    fields = ("conditioning_scale", "start", "end")
    found = tuple(
        getattr(net, field) if net.HasField(field) else default
        for field, default in zip(fields, defaults, strict=True)
    )
    assert found == numbers


def test_a_union_is_told_what_it_takes_each_picture_for() -> None:
    found = settings_for("net=soft-edge:a.png:0.5", "net=tile:C:\\b=c.png", "other:d=e.png")
    kinds = conditioning_pb2.ControlNetType
    assert [(net.model_id, kinds.Name(net.control_type)) for net in found.control_nets] == [
        ("net", "CONTROL_NET_TYPE_SOFT_EDGE"),
        ("net", "CONTROL_NET_TYPE_TILE"),
        ("other", "CONTROL_NET_TYPE_UNSPECIFIED"),
    ]
    assert found.control_nets[0].conditioning_scale == 0.5
    assert [net.image.inline for net in found.control_nets[1:]] == [b"C:\\b=c.png", b"d=e.png"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "canny:50:150@512",
            conditioning_pb2.ControlPreprocessor(
                canny=conditioning_pb2.CannyOptions(low=50, high=150), resolution_pixels=512
            ),
        ),
        (
            "canny",
            conditioning_pb2.ControlPreprocessor(canny=conditioning_pb2.CannyOptions()),
        ),
        (
            "soft-edge:1.5",
            conditioning_pb2.ControlPreprocessor(
                soft_edge=conditioning_pb2.SoftEdgeOptions(radius_pixels=1.5)
            ),
        ),
        ("grey", conditioning_pb2.ControlPreprocessor(grey=conditioning_pb2.GreyOptions())),
    ],
)
def test_preprocessors(text: str, wanted: conditioning_pb2.ControlPreprocessor) -> None:
    assert parse_preprocessor(text) == wanted


def test_every_preprocessor_of_the_contract_but_the_models_has_a_name() -> None:
    oneof = conditioning_pb2.ControlPreprocessor.DESCRIPTOR.oneofs_by_name["preprocessor"]
    named = {field.name for field in oneof.fields} - {"postprocessor_id"}
    for name in named:
        found = parse_preprocessor(name.replace("_", "-"))
        assert found.WhichOneof("preprocessor") == name


def test_one_preprocessor_is_for_all_and_several_for_each() -> None:
    one = settings_for("a:x", "b:y", preprocessors=("grey",))
    assert [net.preprocessor.HasField("grey") for net in one.control_nets] == [True, True]
    both = settings_for("a:x", "b:y", preprocessors=("grey", "tile:2"))
    assert both.control_nets[1].preprocessor.tile.factor == 2


@pytest.mark.parametrize(
    ("controls", "preprocessors", "words"),
    [
        (("net",), (), "ID[=TYPE]:PICTURE"),
        ((":a.png",), (), "ID[=TYPE]:PICTURE"),
        (("=pose:a.png",), (), "ID[=TYPE]:PICTURE"),
        (("net=canny:a.png",), (), "TYPE 'canny' is none of pose, depth, soft-edge"),
        (("net=:a.png",), (), "TYPE '' is none of"),
        ((), ("canny",), "name it with --control"),
        (("a:x", "b:y", "c:z"), ("canny", "grey"), "once for each"),
        (("a:x",), ("cany",), "is none of"),
        (("a:x",), ("canny:a:b",), "is none of"),
        (("a:x",), ("canny:1:2:3",), "is none of"),
        (("a:x",), ("grey:1",), "is none of"),
        (("a:x",), ("canny@big",), "is none of"),
    ],
)
def test_what_makes_no_request(
    controls: tuple[str, ...], preprocessors: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UnusableOptions) as refused:
        settings_for(*controls, preprocessors=preprocessors)
    assert words in str(refused.value)
