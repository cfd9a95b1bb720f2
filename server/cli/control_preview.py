"""Make a control picture to look at: send what it is made of, follow, keep what comes."""

from __future__ import annotations

import uuid
from pathlib import Path

from deviceops.v1 import inference_pb2
from server.cli.client import Client
from server.cli.control import parse_preprocessor
from server.cli.endings import conclude
from server.cli.exits import Exit
from server.cli.following import Follower, Manner
from server.cli.generation import DEFAULT_OUTPUT, PictureKeeper, picture_of
from server.cli.views import chosen, picture_facts
from server.cli.wording import duration, seconds_of


def preview(
    client: Client, picture: str, preprocessor: str, output: Path | None, *, as_json: bool
) -> Exit:
    """Have it made, save it, and show both; the exit code.

    Raises:
        UnusableOptions: The options make no request.
        CallFailed: The server refused, the connection was lost, or the picture arrived
            damaged or could not be written.
    """
    request = inference_pb2.PreviewControlImageRequest(
        preprocessor=parse_preprocessor(preprocessor), image=picture_of(client)(picture)
    )
    request.options.request_id = str(uuid.uuid4())
    with chosen(as_json=as_json) as view:
        keeper = PictureKeeper(output or DEFAULT_OUTPUT, view, unseeded="control")
        follower = Follower(client, handle=keeper.take, note=view.note, manner=Manner())
        ending = follower.follow(lambda: client.inference.PreviewControlImage(request))
    lines = []
    if ending.terminal is not None and ending.state == "completed":
        total = duration(seconds_of(ending.terminal.completed.timings.total))
        lines = [f"1 control picture in {total}"]
    facts = {"pictures": [picture_facts(each) for each in keeper.saved]}
    return conclude(view, ending, lines, facts, as_json=as_json)
