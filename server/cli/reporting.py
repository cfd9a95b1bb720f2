"""What every command shares: how failures are shown, and the exit code they end with."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TypeVar

import typer

from server.cli.choices import UnusableOptions
from server.cli.exits import Exit
from server.cli.failures import CallFailed, CallFailure, as_json, block

F = TypeVar("F", bound=Callable[..., object])


def reported(command: F) -> F:
    """Show what the command raises as one block, or one JSON object with `as_json`."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> object:
        try:
            return command(*args, **kwargs)
        except typer.Exit:
            raise
        except CallFailed as error:
            failure = error.failure
        except KeyboardInterrupt:
            failure = CallFailure(status="CANCELLED", message="Interrupted.")
        except Exception as error:
            failure = _of_options(error)
        show(failure, json_wanted=bool(kwargs.get("as_json")))
        raise typer.Exit(int(failure.exit))

    return run  # type: ignore[return-value]


def show(failure: CallFailure, *, json_wanted: bool) -> None:
    """The failure: JSON on stdout where that is what is read, else a block on stderr."""
    if json_wanted:
        from server.cli.views import write_json

        write_json(as_json(failure))
        return
    lines = block(failure)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        head, _, rest = lines.partition("\n")
        text = Text(head, style="bold red")
        text.append("\n" + rest if rest else "", style="default not bold")
        Console(stderr=True, highlight=False).print(text, soft_wrap=True)
    else:
        print(lines, file=sys.stderr)


def leave(code: Exit) -> None:
    """End the command with this exit code."""
    if code is not Exit.OK:
        raise typer.Exit(int(code))


def _of_options(error: Exception) -> CallFailure:
    """Wrong options and settings as failures; anything else is raised again, a defect."""
    from server.config import ConfigError

    if isinstance(error, ConfigError):
        return CallFailure(
            status="INVALID_ARGUMENT",
            message=str(error),
            advice="See every setting and its source with: deviceops config",
        )
    if isinstance(error, UnusableOptions):
        return CallFailure(status="INVALID_ARGUMENT", message=str(error))
    raise error
