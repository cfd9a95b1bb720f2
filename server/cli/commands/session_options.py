"""Options that say which sessions a command is about."""

from __future__ import annotations

from typing import Annotated

import typer

SessionId = Annotated[str, typer.Argument(metavar="SESSION")]
WithState = Annotated[
    list[str] | None,
    typer.Option("--state", help="queued, running, completed, ...; repeatable."),
]
WithKind = Annotated[
    list[str] | None, typer.Option("--kind", help="generation, model-load, ...; repeatable.")
]
OwnedBy = Annotated[str, typer.Option("--owner", metavar="NAME", help="Only this client's.")]
OnDevice = Annotated[str, typer.Option("--device", metavar="ID", help="Only on this device.")]
WithModel = Annotated[str, typer.Option("--model", metavar="ID", help="Only with this model.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Repeatable: all of them.")]
WithPriority = Annotated[str, typer.Option("--priority", help="low, normal or high")]
