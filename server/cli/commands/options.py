"""Options that several commands share, and the way from them to a connected client."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from server.cli.client import Client
    from server.cli.target import ServerOptions

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="TOML file instead of the usual one.")
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        "-d",
        metavar="ID",
        help="Device id or alias. Repeatable: the best one of these. By default the server"
        " chooses.",
    ),
]
AnyOf = Annotated[
    str,
    typer.Option(
        metavar="KIND,...", help="The best device of these kinds: cuda, rocm, cpu, ..."
    ),
]


def remember_server(context: typer.Context, **options: Any) -> None:
    """Keep what stands before the command for `server_options` of the command."""
    context.obj = options


def server_options(context: typer.Context) -> ServerOptions:
    """What the options before the command say about the server."""
    from server.cli.target import ServerOptions

    return ServerOptions(**(context.obj or {}))


def connected(context: typer.Context) -> AbstractContextManager[Client]:
    """A client of the server that the options name.

    Raises:
        CallFailed: The options make no target.
        server.config.ConfigError: A setting is wrong.
    """
    from server.cli.client import connect
    from server.cli.target import resolve

    return connect(resolve(server_options(context)))
