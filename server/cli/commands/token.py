"""`deviceops token`: print the first token, and add, list, revoke others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from server.cli.commands.options import AsJson, Config
from server.cli.reporting import reported

if TYPE_CHECKING:
    from pathlib import Path

    from server.token_list import TokenFiles

app = typer.Typer(help="Print the first token; add, list, revoke others.")

TokenName = Annotated[str, typer.Argument(metavar="NAME")]


@app.callback(invoke_without_command=True)
@reported
def token(
    context: typer.Context,
    header: Annotated[
        bool,
        typer.Option("--header", help="As the header that grpcurl -H and others take."),
    ] = False,
    config: Config = None,
) -> None:
    """Print the first token of this machine's server: it is named default and may do all.

    For example: grpcurl -plaintext -H "$(deviceops token --header)" ADDRESS list
    """
    if context.invoked_subcommand is not None:
        return
    from server import config as settings_source
    from server.cli.failures import CallFailed, CallFailure
    from server.cli.target import read_token

    path = settings_source.load(config=config).token_path
    if not path.exists():
        raise CallFailed(
            CallFailure(
                status="NOT_FOUND",
                message=f"There is no token at {path}.",
                advice="The server makes it at its first start, unless it was revoked:"
                " deviceops serve",
            )
        )
    value = read_token(path)
    typer.echo(f"authorization: Bearer {value}" if header else value)


@app.command("add")
@reported
def add(
    name: TokenName,
    role: Annotated[
        Literal["read", "run", "admin"],
        typer.Option(
            help="read: look. run: also work, and control its own. admin: everything."
        ),
    ] = "run",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for a client of that name, and print it: nothing can show it again.

    A server that runs accepts it within a second or two.
    """
    from server.cli import tokens
    from server.cli.views import write_json

    secret = tokens.add(_files(config), name, role)
    if as_json:
        write_json({"type": "token", "name": name, "role": role, "token": secret})
        return
    typer.echo(secret)
    typer.echo(f"The token of {name}, role {role}. It is not shown again.", err=True)


@app.command("list")
@reported
def list_(config: Config = None, as_json: AsJson = False) -> None:
    """List the tokens that the server accepts; not the tokens themselves."""
    from server.cli import tokens
    from server.cli.output import table
    from server.cli.views import write_json

    rows = tokens.rows(_files(config))
    if as_json:
        write_json({"type": "tokens", "tokens": [row._asdict() for row in rows]})
    else:
        table(tokens.HEADINGS, rows)


@app.command("revoke")
@reported
def revoke(name: TokenName, config: Config = None) -> None:
    """Have a token refused from now on; its open calls end within seconds."""
    from server.cli import tokens

    tokens.revoke(_files(config), name)
    typer.echo(f"The token of {name} is revoked.", err=True)


def _files(config: Path | None) -> TokenFiles:
    from server import config as settings_source
    from server.cli import tokens

    return tokens.files(settings_source.load(config=config))
