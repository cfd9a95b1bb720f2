"""`deviceops verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import reported


@reported
def verify(
    context: typer.Context,
    picture: Annotated[str, typer.Argument(help="A picture file, or an artifact id.")],
    as_json: AsJson = False,
) -> None:
    """Read a picture's marks: who signed that a model made it, and what it was drawn with."""
    from deviceops.v1 import inference_pb2
    from server.cli.input_image import input_image
    from server.cli.marks import show
    from server.cli.views import write_message

    request = inference_pb2.VerifyImageRequest(image=input_image(picture))
    with connected(context) as client:
        found = client.ask(client.inference.VerifyImage, request)
    if as_json:
        write_message(found)
    else:
        show(found)
