"""`deviceops artifact get`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import reported

app = typer.Typer(help="Fetch pictures that the server keeps.", no_args_is_help=True)


@app.callback()
def artifacts() -> None:
    """Fetch pictures that the server keeps."""


@app.command("get")
@reported
def get(
    context: typer.Context,
    artifact_id: Annotated[str, typer.Argument(metavar="SHA256")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Save one artifact, after checking it against its id."""
    from server.cli.download import download
    from server.cli.views import write_json

    with connected(context) as client:
        path, size_bytes = download(client, artifact_id, output, replace=overwrite)
    if as_json:
        facts = {"artifact_id": artifact_id, "path": str(path), "size_bytes": size_bytes}
        write_json({"type": "saved", **facts})
    else:
        typer.echo(str(path))
