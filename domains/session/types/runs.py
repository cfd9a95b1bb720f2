"""Names of the runs of an item that is run several times."""

from __future__ import annotations

_BETWEEN = "\x1f"
"""No name that a client chooses holds it."""


def run_name(item_id: str, index: int) -> str:
    """The name of a run, counted from 0, among a session's items."""
    return f"{item_id}{_BETWEEN}{index}"


def run_of(name: str) -> tuple[str, int | None]:
    """The item and the run that a name is of; None where it names the item itself."""
    item_id, between, index = name.partition(_BETWEEN)
    return item_id, int(index) if between else None
