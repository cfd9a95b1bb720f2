"""Run the server in this process, and say so to the person at the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from server import config, logs, serve

if TYPE_CHECKING:
    from server.config import Settings


def run(flags: dict[str, Any]) -> int:
    """Serve until told to stop; the process's exit code, as `server.serve.run` has it.

    Raises:
        ConfigError: A setting is wrong.
    """
    settings = config.load(**flags)
    logs.configure(settings)

    def ready(answer: serve.Ready) -> None:
        if sys.stdout.isatty():
            print(announcement(settings, answer.address), flush=True)

    return serve.on_a_loop(settings, ready)


def announcement(settings: Settings, address: str) -> str:
    """The line that a person at a terminal sees once the server answers."""
    access = f"token in {settings.token_path}" if settings.auth else "no token needed"
    return (
        f"Serving on {address} ({access})."
        ' Draw a picture from another terminal: deviceops generate "a red apple"'
    )
