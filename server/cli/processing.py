"""Finish pictures with a chain: one session after another, each result kept."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from deviceops.v1 import common_pb2, device_info_pb2, postprocessing_pb2
from server.cli.before_after import before_after
from server.cli.chain_steps import parse_step
from server.cli.choices import FORMATS, UnusableOptions, choose
from server.cli.client import Client
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.failures import CallFailed
from server.cli.following import Follower, Manner
from server.cli.generation import DEFAULT_OUTPUT, PictureKeeper, fitting_format, picture_of
from server.cli.live import draws_previews, terminal
from server.cli.pictures import SavedPicture
from server.cli.reporting import show
from server.cli.several import failure_of
from server.cli.views import chosen, picture_facts
from server.cli.wording import duration, seconds_of

_ROWS = 21
"""Lines that a picture and what came of it take."""


@dataclass(frozen=True)
class Wanted:
    """What to do with each picture, where, and how its file is made; `format` None is as
    the output's name ends, or PNG; `quality` None is the contract's. `preview_every` None
    shows pictures where the terminal can."""

    steps: tuple[str, ...]
    placement: device_info_pb2.DevicePlacement | None = None
    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    keep_metadata: bool = False
    preview_every: int | None = None


def process(
    client: Client,
    pictures: Sequence[str],
    wanted: Wanted,
    output: Path | None,
    *,
    as_json: bool,
) -> Exit:
    """Have each picture finished and saved; the first exit code that is not OK.

    Raises:
        UnusableOptions: The options make no request.
        CallFailed: The connection was lost, a picture could not be written, or nothing but
            one picture was to be done, and that was refused.
    """
    steps = [parse_step(text, picture_of(client)) for text in wanted.steps]
    made = common_pb2.OutputSettings(
        format=choose(
            common_pb2.ImageFileFormat,
            "IMAGE_FILE_FORMAT_",
            fitting_format(wanted.format, output) or "png",
            FORMATS,
        ),
        quality=wanted.quality,
        lossless=wanted.lossless,
    )
    if wanted.keep_metadata:
        made.source_metadata = common_pb2.SOURCE_METADATA_KEEP
    draws = not as_json and draws_previews(terminal())
    previews = int(draws) if wanted.preview_every is None else wanted.preview_every
    code = Exit.OK
    for picture in pictures:
        request = postprocessing_pb2.ProcessImageRequest(
            steps=steps, output=made, placement=wanted.placement
        )
        request.options.request_id = str(uuid.uuid4())
        if previews:
            request.delivery.previews.every_steps = previews
        try:
            request.image.CopyFrom(picture_of(client)(picture))
            ended = _one(
                client,
                picture,
                request,
                output or DEFAULT_OUTPUT,
                compared=draws and bool(previews),
                as_json=as_json,
            )
        except (CallFailed, UnusableOptions) as error:
            failure = failure_of(picture, error) if len(pictures) > 1 else None
            if failure is None:
                raise
            show(failure, json_wanted=as_json)
            ended = failure.exit
        code = code if code is not Exit.OK else ended
        if ended is Exit.CANCELLED:
            break
    return code


def _one(
    client: Client,
    picture: str,
    request: postprocessing_pb2.ProcessImageRequest,
    output: Path,
    *,
    compared: bool,
    as_json: bool,
) -> Exit:
    with chosen(as_json=as_json) as view:
        keeper = PictureKeeper(output, view)
        follower = Follower(client, handle=keeper.take, note=view.note, manner=Manner())
        ending = follower.follow(lambda: client.postprocessing.ProcessImage(request))
    lines = []
    if ending.terminal is not None and ending.state == "completed":
        total = duration(seconds_of(ending.terminal.completed.timings.total))
        lines = [
            f"{_size_before(picture)}{each.width}x{each.height} in {total}"
            for each in keeper.saved
        ]
        if compared:
            _compare(picture, keeper.saved)
    facts = {
        "picture": picture,
        "pictures": [picture_facts(each) for each in keeper.saved],
    }
    return conclude(view, ending, lines, facts, as_json=as_json)


def _compare(picture: str, saved: Sequence[SavedPicture]) -> None:
    """Draw a file beside what came of it; nothing for a picture that lies with the server."""
    console = terminal()
    for each in saved:
        both = before_after(Path(picture), each.path, console.width, _ROWS)
        if both is not None:
            console.print(both)


def _size_before(picture: str) -> str:
    """Of a file, with an arrow; nothing for a picture that lies with the server."""
    try:
        with Image.open(picture) as image:
            return f"{image.width}x{image.height} -> "
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return ""
