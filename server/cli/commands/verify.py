"""`deviceops verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import leave, reported


@reported
def verify(
    context: typer.Context,
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE...", help="Files, artifact ids, or SESSION#N."),
    ],
    as_json: AsJson = False,
) -> None:
    """Read pictures' marks: who signed that a model made them, and what they were drawn of."""
    from server.cli.input_image import input_image
    from server.cli.marks import read, show, write

    named = [(each, input_image(each)) for each in pictures]
    with connected(context) as client:
        found = read(client, named)
    leave((write if as_json else show)(found))
