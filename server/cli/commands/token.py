"""`deviceops token`."""

from __future__ import annotations

from typing import Annotated

import typer

from server.cli.commands.options import Config
from server.cli.reporting import reported


@reported
def token(
    header: Annotated[
        bool,
        typer.Option("--header", help="As the header that grpcurl -H and others take."),
    ] = False,
    config: Config = None,
) -> None:
    """Print the access token of this machine's server.

    For example: grpcurl -plaintext -H "$(deviceops token --header)" ADDRESS list
    """
    from server import config as settings_source
    from server.cli.failures import CallFailed, CallFailure
    from server.cli.target import read_token

    path = settings_source.load(config=config).token_path
    if not path.exists():
        raise CallFailed(
            CallFailure(
                status="NOT_FOUND",
                message=f"There is no token yet at {path}.",
                advice="The server makes it at its first start: deviceops serve",
            )
        )
    value = read_token(path)
    typer.echo(f"authorization: Bearer {value}" if header else value)
