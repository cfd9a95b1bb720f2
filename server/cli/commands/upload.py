"""`deviceops upload`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import reported


@reported
def upload(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE")],
    upload_id: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="Go on with an upload of this file that broke off."),
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it is kept after its last use: 2h, 7d."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Repeatable: a label to set."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Store a file on the server and print its artifact id.

    A lost connection is made again and goes on where it was. Bytes that are there already
    are not sent.
    """
    from server.cli.choices import duration_in
    from server.cli.labels import labels_in
    from server.cli.upload import upload as send
    from server.cli.views import write_message
    from server.cli.wording import printable

    kept = duration_in("--retention", retention) if retention is not None else None
    labels = labels_in(label or ())
    with connected(context) as client:
        answer = send(client, path, upload_id, kept, labels)
    if as_json:
        write_message(answer)
        return
    if answer.existed:
        typer.echo("It was there already.", err=True)
    typer.echo(printable(answer.artifact.artifact_id))
