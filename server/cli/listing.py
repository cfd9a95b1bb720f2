"""Groups of commands that list what they are about."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class ListingGroup(TyperGroup):
    """Lists when no command is given; whoever is used to it may say `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click's `Group`."""
        return super().parse_args(ctx, args[1:] if args[:1] == ["list"] else args)
