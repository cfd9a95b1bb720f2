"""`deviceops process` and `upscale` on pictures of a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from deviceops.v1 import common_pb2
from tests.server.cli.conftest import Run
from tests.server.cli.messages import png, refuse, whole
from tests.server.cli.scripted import ScriptedServer


@pytest.mark.parametrize("command", ["process", "upscale"])
def test_the_format_is_that_of_the_outputs_ending(
    against: Run, scripted: ScriptedServer, tmp_path: Path, command: str
) -> None:
    scripted.on_generate = lambda request, context: whole(png())

    for name, options in {"a.jpg": (), "b.WEBP": (), "c.jpg": ("--format", "jpeg")}.items():
        done = against(command, "0" * 64, "-o", tmp_path / name, *options)
        assert done.exit_code == 0, done.output
    against(command, "0" * 64, "-o", tmp_path / "folder")
    wrong = against(command, "0" * 64, "-o", tmp_path / "d.jpg", "--format", "png")

    formats = [request.output.format for request in scripted.requests]
    jpeg = common_pb2.IMAGE_FILE_FORMAT_JPEG
    assert formats == [
        jpeg,
        common_pb2.IMAGE_FILE_FORMAT_WEBP,
        jpeg,
        common_pb2.IMAGE_FILE_FORMAT_PNG,
    ]
    assert wrong.exit_code == 2
    assert "--format png does not fit --output d.jpg" in wrong.stderr


def test_tiles_may_be_so_small_that_they_need_another_overlap(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.on_generate = lambda request, context: whole(png())

    for options in ((), ("--overlap", "0"), ("--overlap", "8")):
        against("upscale", "0" * 64, "-o", tmp_path, "--tile", "32", *options)

    steps = [request.steps[0].upscale for request in scripted.requests]
    assert [step.tile_pixels for step in steps] == [32] * 3
    assert [step.HasField("tile_overlap_pixels") for step in steps] == [False, True, True]
    assert [step.tile_overlap_pixels for step in steps] == [0, 0, 8]


def _but_for_wrong_ones(request: Any, context: Any) -> Iterator[Any]:
    if request.image.inline == b"wrong":
        refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "Is no picture.", "IMAGE_UNREADABLE")
    yield from whole(png())


@pytest.mark.parametrize("as_json", [False, True])
def test_a_picture_that_cannot_be_used_does_not_keep_the_others(
    against: Run, scripted: ScriptedServer, tmp_path: Path, as_json: bool
) -> None:
    """It is named, and the exit code is that of the first one."""
    scripted.on_generate = _but_for_wrong_ones
    names = [str(tmp_path / name) for name in ("a.png", "wrong.png", "none.png", "b.png")]
    for name in (names[0], names[3]):
        Path(name).write_bytes(png())
    Path(names[1]).write_bytes(b"wrong")

    options = ["--json"] if as_json else []
    done = against("process", *names, "-o", tmp_path / "out", *options)

    assert done.exit_code == 2
    assert len(list((tmp_path / "out").iterdir())) == 2
    if as_json:
        lines = map(json.loads, done.stdout.splitlines())
        said = [each["message"] for each in lines if each["type"] == "error"]
    else:
        said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert [name in line for name, line in zip(names[1:3], said, strict=True)] == [True, True]


def test_what_holds_for_every_picture_is_told_once(
    against: Run, scripted: ScriptedServer, tmp_path: Path
) -> None:
    def not_yours(request: Any, context: Any) -> Iterator[Any]:
        yield refuse(
            context, grpc.StatusCode.PERMISSION_DENIED, "It takes a role.", "ROLE_REQUIRED"
        )

    scripted.on_generate = not_yours

    done = against("process", "0" * 64, "1" * 64, "-o", tmp_path)

    assert done.exit_code == 1
    assert len(scripted.requests) == 1
