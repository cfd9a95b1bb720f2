"""`deviceops doctor`."""

from __future__ import annotations

import typer

from server.cli.commands.options import AsJson, Config, server_options
from server.cli.reporting import reported


@reported
def doctor(context: typer.Context, config: Config = None, as_json: AsJson = False) -> None:
    """Check this machine, the settings and the server, and say what to do about problems.

    Exit code 1 when there is a problem, else 0.
    """
    from server.cli.diagnosis import diagnose, show

    found = diagnose(server_options(context), config)
    raise typer.Exit(show(found, as_json=as_json))
