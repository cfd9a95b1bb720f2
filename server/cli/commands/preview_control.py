"""`deviceops preview-control`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import leave, reported


@reported
def preview_control(
    context: typer.Context,
    picture: Annotated[
        str, typer.Argument(metavar="PICTURE", help="A file, an artifact id, or SESSION#N.")
    ],
    preprocessor: Annotated[
        str,
        typer.Argument(
            metavar="HOW",
            help="canny[:LOW:HIGH], soft-edge[:RADIUS], line-art[:THRESHOLD],"
            " scribble[:STROKE], grey, tile[:FACTOR], face-mask[:PADDING]; each may end in"
            " @PIXELS, the longer side that it works at.",
        ),
    ] = "canny",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder, or file ending .png; by default the folder out.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a control picture for ControlNets, to look at or to use as it is."""
    from server.cli.control_preview import preview

    with connected(context) as client:
        leave(preview(client, picture, preprocessor, output, as_json=as_json))
