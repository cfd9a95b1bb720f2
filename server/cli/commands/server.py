"""`deviceops server info`."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import AsJson, connected
from server.cli.reporting import reported

app = typer.Typer(help="Ask the server about itself.", no_args_is_help=True)


@app.callback()
def server() -> None:
    """Ask the server about itself."""


@app.command("info")
@reported
def info(
    context: typer.Context,
    limits: Annotated[
        bool, typer.Option("--limits", help="Also every limit and default of the contract.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show versions, your name and role, what is built, how long things are kept, quotas."""
    from deviceops.v1 import system_pb2
    from server.cli.server_facts import show
    from server.cli.views import write_message

    with connected(context) as client:
        found = client.ask(client.system.GetServerInfo, system_pb2.GetServerInfoRequest())
    if as_json:
        write_message(found)
    else:
        show(found, limits=limits)
